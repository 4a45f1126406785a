-- Note members of one group as finished, and let the group live on.
--
-- KEYS  1 meta  2 ours  3 finished
-- ARGV  1 lifetime in milliseconds, then the members
-- Returns {whether the records of the members are to be renewed, which is now and then, then how many members were noted after
-- each}; {} when the group was not made by us or is gone.

if redis.call('EXISTS', KEYS[1], KEYS[2]) < 2 then
    return {}
end
local replies = {0}
for i = 2, #ARGV do
    redis.call('SADD', KEYS[3], ARGV[i])
    replies[i] = redis.call('SCARD', KEYS[3])
end
local ours = redis.call('HMGET', KEYS[2], 'closed', 'renewed')
if ours[1] then
    -- Only its end is waited for: what came late must not prolong it, nor outlive it.
    redis.call('PEXPIRE', KEYS[3], math.max(1, redis.call('PTTL', KEYS[1])))
    return replies
end
for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, ARGV[1])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now - tonumber(ours[2] or 0) > ARGV[1] / 4 then
    redis.call('HSET', KEYS[2], 'renewed', now)
    replies[1] = 1
end
return replies
