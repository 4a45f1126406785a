-- Note that members of open groups finished just now.
--
-- KEYS  1 open groups
-- ARGV  1 'XX' to touch only those that are open, or '' to open them  2 lifetime of a group in milliseconds, then the groups

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] == '' then
    -- Where no worker looks after open groups, nobody else takes those out that have gone.
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - 2 * tonumber(ARGV[2])))
end
for i = 3, #ARGV do
    if ARGV[1] == 'XX' then
        redis.call('ZADD', KEYS[1], 'XX', now, ARGV[i])
    else
        redis.call('ZADD', KEYS[1], now, ARGV[i])
    end
end
return #ARGV - 2
