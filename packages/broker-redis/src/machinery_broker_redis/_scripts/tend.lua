-- Look after one queue: put what is due of the postponed at the head of the queue, and tell whose last sign of life is old.
--
-- KEYS  1 queue  2 workers  3 postponed
-- ARGV  1 lease in milliseconds  2 limit
-- Returns {milliseconds until the next postponed one is due, or -1; then name, score, … of the silent consumers}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[2])
if #due > 0 then
    redis.call('ZREM', KEYS[3], unpack(due))
    for i = #due, 1, -1 do
        redis.call('LPUSH', KEYS[1], string.sub(due[i], string.find(due[i], ':', 1, true) + 1))
    end
end

local wait = -1
local nearest = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
if nearest[2] then
    wait = math.max(0, nearest[2] - now)
end
local silent = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. (now - tonumber(ARGV[1])), 'WITHSCORES', 'LIMIT', 0, 100)
table.insert(silent, 1, wait)
return silent
