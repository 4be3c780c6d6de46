-- Lets go of some records and rows that may go. Never more than a script may do at once.
-- KEYS: log, ends of records, ends of rows. ARGV: now, how many of each at most.
-- By both clocks: one that is ahead, a broker's or the server's, must not take what is not over.
local now = math.min(tonumber(ARGV[1]), tonumber(redis.call('TIME')[1]))
local gone = 0
for place = 2, 3 do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[place], '-inf', '(' .. now, 'LIMIT', 0, ARGV[2])) do
    redis.call('XDEL', KEYS[1], id)
    redis.call('ZREM', KEYS[place], id)
    gone = gone + 1
  end
end
return gone
