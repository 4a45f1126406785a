-- Forget messages that a consumer is done with.
--
-- KEYS  1 inflight  2 attempts
-- ARGV  1 how many numbers follow, then these, then the SHA-1s whose attempts are to be forgotten
-- Returns the positions (from 0) of the numbers that were not the consumer's any more.

local lost = {}
local count = tonumber(ARGV[1])
for i = 1, count do
    if redis.call('HDEL', KEYS[1], ARGV[i + 1]) == 0 then
        lost[#lost + 1] = i - 1
    end
end
for i = count + 2, #ARGV do
    redis.call('HDEL', KEYS[2], ARGV[i])
end
return lost
