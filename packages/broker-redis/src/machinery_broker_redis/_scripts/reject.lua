-- Move messages to the dead letters of their queue.
--
-- KEYS  1 inflight  2 dead  3 dead bodies  4 dead reasons  5 attempts
-- ARGV  1 reason, then the numbers
-- Returns the positions (from 0) of the numbers that were not the consumer's any more.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local counted = redis.call('EXISTS', KEYS[5]) == 1
local lost = {}
for i = 2, #ARGV do
    local body = redis.call('HGET', KEYS[1], ARGV[i])
    if body then
        redis.call('HDEL', KEYS[1], ARGV[i])
        redis.call('ZADD', KEYS[2], now, ARGV[i])
        redis.call('HSET', KEYS[3], ARGV[i], body)
        redis.call('HSET', KEYS[4], ARGV[i], ARGV[1])
        if counted then
            redis.call('HDEL', KEYS[5], redis.sha1hex(body))
        end
    else
        lost[#lost + 1] = i - 2
    end
end
return lost
