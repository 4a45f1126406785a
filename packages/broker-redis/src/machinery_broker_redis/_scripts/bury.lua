-- Put bodies that nobody holds among the dead letters of a queue.
--
-- KEYS  1 sequence  2 dead  3 dead bodies  4 dead reasons
-- ARGV  1 reason, then the bodies

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV do
    local id = redis.call('INCR', KEYS[1])
    redis.call('ZADD', KEYS[2], now, id)
    redis.call('HSET', KEYS[3], id, ARGV[i])
    redis.call('HSET', KEYS[4], id, ARGV[1])
end
return #ARGV - 1
