-- List open groups in which no member finished for a while, longest idle first.
--
-- KEYS  1 open groups
-- ARGV  1 for how many milliseconds  2 limit  3 lifetime of a group in milliseconds: what was idle for longer is gone

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - 2 * tonumber(ARGV[3])))
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - tonumber(ARGV[1])), 'LIMIT', 0, ARGV[2])
