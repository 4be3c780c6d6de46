-- Begins to read the log: says which server's history this is, and sees to it that positions go on from beyond every one
-- that was ever given, whatever a server that took over has lost.
-- KEYS: state, ends of records. ARGV: the last position that the caller has applied.
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
local held = redis.call('HMGET', KEYS[1], 'position', 'history')
-- A store that is empty may have followed another one, whose tokens live: its positions are beyond what that one gave.
local first = tonumber(redis.call('TIME')[1]) * 256
local position, known = tonumber(held[1] or first), tonumber(ARGV[1])
if (held[2] and held[2] ~= history) or known > position then
  -- The next million: nobody has appended as many that were lost.
  position = (math.floor(math.max(position, known) / 1048576) + 1) * 1048576
end
redis.call('HSET', KEYS[1], 'position', string.format('%.0f', position), 'history', history)
return { history, string.format('%.0f', position), redis.call('ZCARD', KEYS[2]) }
