-- Takes back marks, and a token of a task, for which nothing was given.
-- KEYS: the marks, then the task where there is one. ARGV: how many marks.
local marks = tonumber(ARGV[1])
for place = 1, marks do
  redis.call('DEL', KEYS[place])
end
if #KEYS > marks and tonumber(redis.call('HGET', KEYS[#KEYS], 'used') or '0') > 0 then
  redis.call('HINCRBY', KEYS[#KEYS], 'used', -1)
end
return 1
