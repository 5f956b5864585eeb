-- Tells a partition its queue's shape: how many partitions it has, and whether each key's last event is known. Where it
-- holds events, or some wait, their number stays.
-- args: 1: how many; 2: '1': each key's last event is known; 3: the most events that a view is built from
-- Answers how many partitions there are, whether each key's last event is known, and 1 if the view must be built; a
-- refusal to build one is another answer than what was asked for.
local had, latest = (part.partitions or ''):match('^(%d+)(.*)$')
local asked = args[1] .. (args[2] == '1' and ',latest' or '')
local function answer(count, is_latest)
    return { tonumber(count), is_latest and 1 or 0, redis.call('HEXISTS', META, 'view') }
end
if had and had ~= args[1] and (part.seq > 0 or part.waiting > 0) then return answer(had, latest ~= '') end
if args[2] == '1' and latest ~= ',latest' then
    local kept = part.seq + 1 - part.floor
    if kept > tonumber(args[3]) then return answer(had or args[1], false) end
    redis.call('UNLINK', VIEW)
    if kept > 0 then redis.call('HSET', META, 'view', 'lost') end
elseif args[2] ~= '1' and latest == ',latest' then
    redis.call('UNLINK', VIEW)
    redis.call('HDEL', META, 'view')
end
redis.call('HSET', META, 'partitions', asked)
return answer(args[1], args[2] == '1')
