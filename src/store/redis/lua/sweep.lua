-- Lets go of some records and rows that may go. Never more than a script may do at once.
-- KEYS: log, ends of records, ends of rows. ARGV: now, or nothing where the server's own clock is to say; how many at most.
local clock = tonumber(redis.call('TIME')[1])
local now = tonumber(ARGV[1]) or clock
local gone = 0
-- A row goes soon after its token: a broker whose clock is ahead must not take those of others.
for place, over in pairs({ [2] = now, [3] = math.min(now, clock) }) do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[place], '-inf', '(' .. over, 'LIMIT', 0, ARGV[2])) do
    redis.call('XDEL', KEYS[1], id)
    redis.call('ZREM', KEYS[place], id)
    gone = gone + 1
  end
end
return gone
