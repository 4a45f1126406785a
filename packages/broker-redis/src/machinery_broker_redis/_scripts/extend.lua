-- Note that a consumer lives, and tell what it holds no more.
--
-- KEYS  1 workers  2 inflight
-- ARGV  1 consumer, then the numbers it believes to hold
-- Returns the positions (from 0) of the numbers that are not the consumer's any more.

local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
local lost = {}
for i = 2, #ARGV do
    if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then
        lost[#lost + 1] = i - 2
    end
end
return lost
