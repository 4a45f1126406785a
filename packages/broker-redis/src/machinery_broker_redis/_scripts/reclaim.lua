-- Give what a consumer held back to the head of the queue, as delivered once more; a bounded number at a call.
--
-- KEYS  1 queue  2 workers  3 attempts  4 taken  5 inflight
-- ARGV  1 consumer  2 the score of its last sign of life as seen, or '' to reclaim whatever it says  3 limit
--       4 lifetime of the attempts in milliseconds
-- Returns how many were given back; -1 when the consumer gave a sign of life since. The consumer is struck off when nothing is
-- left: a number below the limit means so.

if ARGV[2] ~= '' then
    local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
    if not score or tonumber(score) ~= tonumber(ARGV[2]) then
        return -1
    end
end

local limit = tonumber(ARGV[3])
local moved = 0

-- What it took but never claimed was not delivered: nothing is counted. It is younger than all that is in flight, and what goes
-- back last ends up at the head, so it goes first.
local taken = redis.call('LRANGE', KEYS[4], 0, -1)
for i = #taken, 1, -1 do
    redis.call('LPUSH', KEYS[1], taken[i])
    moved = moved + 1
end
redis.call('DEL', KEYS[4])

local numbers = redis.call('HKEYS', KEYS[5])
table.sort(numbers, function(a, b) return tonumber(a) > tonumber(b) end)
for i = 1, math.min(#numbers, limit - moved) do
    local body = redis.call('HGET', KEYS[5], numbers[i])
    redis.call('HDEL', KEYS[5], numbers[i])
    redis.call('HINCRBY', KEYS[3], redis.sha1hex(body), 1)
    redis.call('LPUSH', KEYS[1], body)
    moved = moved + 1
end
if moved > 0 then
    redis.call('PEXPIRE', KEYS[3], ARGV[4])
end
if moved < limit then
    redis.call('ZREM', KEYS[2], ARGV[1])
end
return moved
