-- Move up to a limit of waiting messages to a consumer's in-flight hash, and note that the consumer lives.
--
-- What a blocking receive took goes first, then what is due of the postponed, then the queue from its head.
--
-- KEYS  1 queue  2 workers  3 sequence  4 attempts  5 postponed  6 taken  7 inflight
-- ARGV  1 consumer  2 limit
-- Returns {first number, bodies, attempts}: bodies are numbered upwards from the first; attempts (how often each was delivered
-- before to a consumer that died) is left out where all are 0. {} when there was nothing.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[2], now, ARGV[1])

local limit = tonumber(ARGV[2])
local bodies = redis.call('LRANGE', KEYS[6], 0, -1)
if #bodies > 0 then
    redis.call('DEL', KEYS[6])
end

if #bodies < limit then
    local due = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, limit - #bodies)
    if #due > 0 then
        redis.call('ZREM', KEYS[5], unpack(due))
        for _, member in ipairs(due) do
            bodies[#bodies + 1] = string.sub(member, string.find(member, ':', 1, true) + 1)
        end
    end
end

if #bodies < limit then
    local popped = redis.call('LPOP', KEYS[1], limit - #bodies)
    if popped then
        if #bodies == 0 then
            bodies = popped
        else
            for _, body in ipairs(popped) do
                bodies[#bodies + 1] = body
            end
        end
    end
end

local count = #bodies
if count == 0 then
    return {}
end

local last = redis.call('INCRBY', KEYS[3], count)
local first = last - count + 1
local pairs_ = {}
for i = 1, count do
    pairs_[2 * i - 1] = first + i - 1
    pairs_[2 * i] = bodies[i]
end
redis.call('HSET', KEYS[7], unpack(pairs_))

if redis.call('EXISTS', KEYS[4]) == 0 then
    return {first, bodies}
end
local fields = {}
for i = 1, count do
    fields[i] = redis.sha1hex(bodies[i])
end
local attempts = redis.call('HMGET', KEYS[4], unpack(fields))
for i = 1, count do
    attempts[i] = tonumber(attempts[i] or 0)
end
return {first, bodies, attempts}
