-- Gives back the place of a task that was not opened after all.
-- KEYS: all tasks, those of the workload. ARGV: the task.
for _, tasks in ipairs(KEYS) do
  redis.call('ZREM', tasks, ARGV[1])
end
return 1
