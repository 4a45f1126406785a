-- Take delayed messages that are due, earliest first, on their way to their queues.
--
-- They stay in the moving set until their mover has pushed them; one that died on the way is taken over after the lease.
--
-- KEYS  1 delayed  2 moving
-- ARGV  1 limit  2 lease in milliseconds
-- Returns {milliseconds until the next is due, or -1; then the bodies}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local limit = tonumber(ARGV[1])

local bodies = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, limit)
if #bodies < limit then
    -- Scores of delayed messages are nanoseconds, Go's.
    local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%d%06d000', time[1], time[2]),
        'LIMIT', 0, limit - #bodies)
    if #due > 0 then
        redis.call('ZREM', KEYS[1], unpack(due))
        for _, body in ipairs(due) do
            bodies[#bodies + 1] = body
        end
    end
end
if #bodies > 0 then
    local expiry = now + tonumber(ARGV[2])
    local members = {}
    for i, body in ipairs(bodies) do
        members[2 * i - 1] = expiry
        members[2 * i] = body
    end
    redis.call('ZADD', KEYS[2], unpack(members))
end

local wait = -1
local nearest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if nearest[2] then
    wait = math.max(0, math.ceil(nearest[2] / 1000000 - now))
end
table.insert(bodies, 1, wait)
return bodies
