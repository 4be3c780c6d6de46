-- Says whose history the log is, where server and log agree. From time to time the name of who asks is written, so that a
-- server that is cut off from its replicas cannot confirm it.
-- KEYS: state. ARGV: the name, or nothing.
if ARGV[1] ~= '' then
  redis.call('HSET', KEYS[1], 'seen', ARGV[1])
end
local info = redis.call('INFO', 'replication')
local history = string.match(info, 'master_replid:(%w+)')
-- One that was made a replica follows another one, and may be behind.
if redis.call('HGET', KEYS[1], 'history') ~= history or not string.find(info, 'role:master', 1, true) then
  return ''
end
return history
