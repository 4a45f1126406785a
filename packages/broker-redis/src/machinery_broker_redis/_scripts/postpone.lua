-- Give messages back to be delivered later.
--
-- KEYS  1 postponed  2 inflight
-- ARGV  1 delay in milliseconds, then the numbers
-- Returns the positions (from 0) of the numbers that were not the consumer's any more.

local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local lost = {}
for i = 2, #ARGV do
    local body = redis.call('HGET', KEYS[2], ARGV[i])
    if body then
        redis.call('HDEL', KEYS[2], ARGV[i])
        redis.call('ZADD', KEYS[1], due, ARGV[i] .. ':' .. body)
    else
        lost[#lost + 1] = i - 2
    end
end
return lost
