-- The positions of events that are the last of their key.
-- args: 1: the digest of a key; '' for those of all, 2: after this position, 3: at most so many
-- Answers them in their order; 0 where the view isn't true of the log at the moment.
if view_is_lost() then return 0 end
if args[1] ~= '' then
    local position = tonumber(redis.call('ZSCORE', VIEW, args[1]) or 0)
    return position >= part.floor and { position } or {}
end
local after = math.max(tonumber(args[2]), part.floor - 1)
local answer, found = {}, redis.call('ZRANGEBYSCORE', VIEW, '(' .. int(after), '+inf', 'WITHSCORES', 'LIMIT', 0, tonumber(args[3]))
for i = 2, #found, 2 do answer[i / 2] = tonumber(found[i]) end
return answer
