-- What a consumer holds: for the look after an error, when a claim may have been applied whose answer was lost.
--
-- KEYS  1 attempts  2 inflight
-- ARGV  the numbers that the consumer knows of
-- Returns {numbers, bodies, attempts} of what it does not know of, in no order.

local known = {}
for _, number in ipairs(ARGV) do
    known[number] = true
end
local numbers, bodies, attempts = {}, {}, {}
for _, number in ipairs(redis.call('HKEYS', KEYS[2])) do
    if not known[number] then
        local body = redis.call('HGET', KEYS[2], number)
        numbers[#numbers + 1] = number
        bodies[#bodies + 1] = body
        attempts[#attempts + 1] = tonumber(redis.call('HGET', KEYS[1], redis.sha1hex(body)) or 0)
    end
end
return {numbers, bodies, attempts}
