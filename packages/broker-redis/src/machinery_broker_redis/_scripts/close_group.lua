-- Let what is kept of a group expire.
--
-- KEYS  1 meta  2 ours  3 finished  4 claimant
-- ARGV  1 lifetime in milliseconds
-- Returns the metadata, or false where there is none.

if redis.call('EXISTS', KEYS[2]) == 1 then
    redis.call('HSET', KEYS[2], 'closed', 1)
end
for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, ARGV[1])
end
return redis.call('GET', KEYS[1])
