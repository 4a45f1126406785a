-- Let records live for a time, those too that are still to be written: these are kept a place, an empty string.
--
-- KEYS  the records' keys
-- ARGV  1 lifetime in milliseconds

for _, key in ipairs(KEYS) do
    if redis.call('PEXPIRE', key, ARGV[1]) == 0 then
        redis.call('SET', key, '', 'PX', ARGV[1])
    end
end
return #KEYS
