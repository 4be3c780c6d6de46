-- Takes a place for a task, where there is one of its workload and of all.
-- KEYS: all tasks, those of the workload. ARGV: now, the task, its deadline, the most of all, the most of one.
for _, tasks in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', tasks, '-inf', ARGV[1])
end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) or redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then
  return 0
end
for _, tasks in ipairs(KEYS) do
  redis.call('ZADD', tasks, ARGV[3], ARGV[2])
end
-- So that a workload that opens no more leaves nothing behind.
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
redis.call('EXPIRE', KEYS[2], math.max(1, tonumber(last[2]) - tonumber(ARGV[1])))
return 1
