-- Appends a record, and lets go of some that are over.
-- KEYS: state, log, ends. ARGV: the history that the caller has read, the record, when it is over, what is over by now.
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
local held = redis.call('HMGET', KEYS[1], 'position', 'history')
if held[2] ~= history or history ~= ARGV[1] then
  return redis.error_reply('HISTORY another server has taken over, and its log has to be read first')
end
local position = string.format('%.0f', tonumber(held[1]) + 1)
redis.call('XADD', KEYS[2], position .. '-0', 'r', ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[3], position)
redis.call('HSET', KEYS[1], 'position', position)
for _, over in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. ARGV[4], 'LIMIT', 0, 100)) do
  redis.call('XDEL', KEYS[2], over .. '-0')
  redis.call('ZREM', KEYS[3], over)
end
return position
