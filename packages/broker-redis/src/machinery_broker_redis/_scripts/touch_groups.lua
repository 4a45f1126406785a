-- Note that members of open groups finished just now.
--
-- KEYS  1 open groups
-- ARGV  1 'XX' to touch only those that are open, or '' to open them, then the groups

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV do
    if ARGV[1] == 'XX' then
        redis.call('ZADD', KEYS[1], 'XX', now, ARGV[i])
    else
        redis.call('ZADD', KEYS[1], now, ARGV[i])
    end
end
return #ARGV - 1
