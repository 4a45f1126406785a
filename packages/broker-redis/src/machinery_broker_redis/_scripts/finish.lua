-- Note members of one group as finished, and let the group live on.
--
-- KEYS  1 meta  2 ours  3 finished
-- ARGV  1 lifetime in milliseconds, then the members
-- Returns how many were noted after each; {} when the group was not made by us or is gone.

if redis.call('EXISTS', KEYS[1], KEYS[2]) < 2 then
    return {}
end
local counts = {}
for i = 2, #ARGV do
    redis.call('SADD', KEYS[3], ARGV[i])
    counts[i - 1] = redis.call('SCARD', KEYS[3])
end
for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, ARGV[1])
end
return counts
