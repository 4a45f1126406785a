-- Give messages back to the head of the queue.
--
-- KEYS  1 queue  2 inflight
-- ARGV  the numbers, last claimed first, so that the first claimed ends up at the head
-- Returns the positions (from 0) of the numbers that were not the consumer's any more.

local lost = {}
for i = 1, #ARGV do
    local body = redis.call('HGET', KEYS[2], ARGV[i])
    if body then
        redis.call('HDEL', KEYS[2], ARGV[i])
        redis.call('LPUSH', KEYS[1], body)
    else
        lost[#lost + 1] = i - 1
    end
end
return lost
