-- Says which keys a replica publishes, and gives what each replica does that was heard of lately.
-- KEYS: replicas. ARGV: the replica, its key ids, for how many seconds a replica is ready that was heard of.
local now = tonumber(redis.call('TIME')[1])
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
local ready, all = {}, redis.call('HGETALL', KEYS[1])
for place = 1, #all, 2 do
  local heard, keys = string.match(all[place + 1], '^(%d+) (.*)$')
  if now - tonumber(heard) <= tonumber(ARGV[3]) then
    table.insert(ready, keys)
  elseif now - tonumber(heard) > 86400 then
    redis.call('HDEL', KEYS[1], all[place])
  end
end
return ready
