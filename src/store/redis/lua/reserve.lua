-- Claims marks, each at most once, and one token of a task: all of it, or nothing.
-- KEYS: the marks, then the task where there is one. ARGV: how many marks, for how many milliseconds each; the name of this
-- claim, which nobody else has: a cluster may send it twice; then now, how long the task may be idle, when the token ends, all
-- in seconds.
local marks = tonumber(ARGV[1])
local claim = ARGV[marks + 2]
for place = 1, marks do
  local held = redis.call('GET', KEYS[place])
  if held and held ~= claim then
    return { 'used', place }
  end
end
local used = 0
if #KEYS > marks then
  local task = KEYS[#KEYS]
  local now, idle, ends = tonumber(ARGV[marks + 3]), tonumber(ARGV[marks + 4]), tonumber(ARGV[marks + 5])
  local held = redis.call('HMGET', task, 'budget', 'used', 'idle_since', 'claim')
  if not held[3] then
    return { 'unknown', 0 }
  end
  local budget, idle_since = tonumber(held[1] or '0'), tonumber(held[3])
  if held[4] == claim then
    return { 'whole', budget > 0 and tonumber(held[2]) or 0 }
  end
  if now - idle_since > idle then
    return { 'idle', 0 }
  end
  if budget > 0 and tonumber(held[2] or '0') >= budget then
    return { 'budget', 0 }
  end
  used = redis.call('HINCRBY', task, 'used', 1)
  redis.call('HSET', task, 'claim', claim, 'last_used', now, 'idle_since', math.max(idle_since, ends))
  if budget == 0 then
    used = 0
  end
end
for place = 1, marks do
  redis.call('SET', KEYS[place], claim, 'PX', ARGV[place + 1])
end
return { 'whole', used }
