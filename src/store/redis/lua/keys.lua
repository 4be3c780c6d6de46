-- Replaces what is known of the keys, by who holds the lease.
-- KEYS: lease, records. ARGV: the lease, then key ids and records in turn.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
for place = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[place], ARGV[place + 1])
end
return 1
