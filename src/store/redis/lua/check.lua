-- Says whose history the log is, where server and log agree. From time to time the name of who asks is written, so that a
-- server that is cut off from its replicas cannot confirm it.
-- KEYS: state. ARGV: the name, or nothing.
if ARGV[1] ~= '' then
  redis.call('HSET', KEYS[1], 'seen', ARGV[1])
end
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
local held = redis.call('HGET', KEYS[1], 'history')
if held ~= history then
  return ''
end
return history
