-- Says whose history the log is, where server and log agree, and how many replicas follow the server. From time to time
-- something is written, so that a server that is cut off from its replicas cannot confirm it; nothing that needs memory.
-- KEYS: state. ARGV: 1 where it is to be written.
if ARGV[1] == '1' then
  redis.call('PEXPIREAT', KEYS[1], '32503680000000')
end
local info = redis.call('INFO', 'replication')
local history = string.match(info, 'master_replid:(%w+)')
-- One that was made a replica follows another one, and may be behind.
if redis.call('HGET', KEYS[1], 'history') ~= history or not string.find(info, 'role:master', 1, true) then
  return { '', 0 }
end
return { history, tonumber(string.match(info, 'connected_slaves:(%d+)') or '0') }
