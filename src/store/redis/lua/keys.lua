-- Replaces what is known of the keys, by who holds the lease. Written before anything goes: memory may be full.
-- KEYS: lease, records. ARGV: the lease, then key ids and records in turn.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local kept = {}
for place = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[place], ARGV[place + 1])
  kept[ARGV[place]] = true
end
for _, key in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not kept[key] then
    redis.call('HDEL', KEYS[2], key)
  end
end
return 1
