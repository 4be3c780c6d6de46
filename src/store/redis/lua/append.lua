-- Appends a record, or a row of a status list.
-- KEYS: state, log, ends of its kind. ARGV: the history that the caller has read, `record` or `row`, its bytes, when it may go.
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
local held = redis.call('HMGET', KEYS[1], 'position', 'history')
if held[2] ~= history or history ~= ARGV[1] then
  return redis.error_reply('HISTORY another server has taken over, and its log has to be read first')
end
local position, id = held[1], nil
if ARGV[2] == 'row' then
  -- Between the records, which alone have positions.
  id = position .. '-' .. string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'row', 1))
else
  position = string.format('%.0f', tonumber(position) + 1)
  id = position .. '-0'
end
redis.call('XADD', KEYS[2], id, 'r', ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[4], id)
redis.call('HSET', KEYS[1], 'position', position)
return position
