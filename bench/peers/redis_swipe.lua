-- A swipe in Redis. What stands after an at sign is filled in by swipe.py.
-- A card is "c" and its number: principal, bonus, points, last valid date, status. A store is "s" and its number:
-- clearing, collection, issuer bonus, issuer points, points pool. A terminal is "t" and its number: its store. A key
-- is "k", the date, and terminal and trace or an id, either headed by the run: the place of its row in the list "journal".
-- redis-benchmark draws whole numbers below 2^31 only: kind, amount and the card's number are made of them here.
local drawn = tonumber(ARGV[1])
local kind = drawn % 10
kind = kind < 6 and 3 or kind < 9 and 2 or 6
local terminal = tonumber(ARGV[3]) % @stores + 1
local index = tonumber(ARGV[2]) % @cards
local low = index * 87498949
local number = string.format('%08d%08d', (index * 61803398 + math.floor(low / 1e8)) % 1e8, low % 1e8)

if kind == 6 then
    if redis.call('EXISTS', 't' .. terminal) == 0 then return {58} end
    local found = redis.call('GET', 'c' .. number)
    if not found then return {14} end
    local principal, bonus, points = struct.unpack('>i8i8i8', found)
    return {0, principal, bonus, points}
end

local day, time = @day, 28800 + math.floor(drawn / 20) % 50400
local amount = tonumber(ARGV[4])
amount = kind == 3 and @purchase_min + amount % @purchase_span or @top_up_min + amount % @top_up_span
-- Of the first number the lower 24 bits, below the run in ARGV[9]: two runs that draw alike have no key in common.
local head = tonumber(ARGV[9]) * 2 ^ 24 + tonumber(ARGV[5]) % 2 ^ 24
local key
if math.floor(drawn / 10) % 2 == 0 then
    key = struct.pack('>BI4I4I4I4', 107, day, terminal, head, tonumber(ARGV[6]))
else
    key = struct.pack('>BI4I4I4I4I4', 107, day, head, tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]))
end

if day < @day - 6 or day > @day then return {12} end
local found = redis.call('MGET', key, 't' .. terminal, 'c' .. number)
local at, store, card = found[1], found[2], found[3]
if at then
    local row = redis.call('LINDEX', 'journal', struct.unpack('>I8', at) - 1)
    local first, code, where, _, _, asked, whose = struct.unpack('>BBI4I4I4I8c16', row)
    if first == kind and where == terminal and asked == amount and whose == number then return {code} end
    return {94}
end
if not store then return {58} end

local code = 14
local principal, bonus, points, expires, status
if card then
    principal, bonus, points, expires, status = struct.unpack('>i8i8i8I4B', card)
    code = status ~= 1 and 62 or expires ~= 0 and expires < @day and 54 or (amount < 1 or amount > 1e14) and 13 or 0
end
local from_principal, from_bonus, spent, earned, due, taken, gift, offset = 0, 0, 0, 0, 0, 0, 0, 0
if code == 0 and kind == 2 then
    if amount >= @gift_from then gift = math.floor(amount * @gift_n / @gift_d) end
    if principal + bonus + amount + gift > @balance_max then code = 61 end
    from_principal, from_bonus, taken = -amount, -gift, amount
elseif code == 0 then
    due = amount - math.floor(amount * @discount_n / @discount_d)
    if points >= @points_min then
        offset = math.min(math.floor(due * @offset_n / @offset_d), math.floor(points * @price_n / @price_d))
        spent = math.ceil(offset * @price_d / @price_n)
    end
    local rest = due - offset
    from_bonus = math.min(rest, math.floor(due * @bonus_n / @bonus_d), bonus)
    from_principal = rest - from_bonus
    earned = math.floor(rest * @accrual_n / @accrual_d)
    if from_principal > principal then code = 51 end
end
if code ~= 0 then
    local row = struct.pack('>BBI4I4I4I8', kind, code, terminal, day, time, amount) .. number .. key
    redis.call('SET', key, struct.pack('>I8', redis.call('RPUSH', 'journal', row)))
    return {code, principal, bonus, points}
end
principal, bonus, points = principal - from_principal, bonus - from_bonus, points - spent + earned
local clearing, collection, granted, paid, pool = struct.unpack('>i8i8i8i8i8', redis.call('GET', 's' .. store))
local row = struct.pack('>BBI4I4I4I8c16i8i8i8i8i8i8i8i8i8', kind, code, terminal, day, time, amount, number,
    -from_principal, -from_bonus, -spent, earned, due, -taken, -gift, -offset, spent - earned) .. key
local place = redis.call('RPUSH', 'journal', row)
redis.call('MSET', key, struct.pack('>I8', place),
    'c' .. number, struct.pack('>i8i8i8I4B', principal, bonus, points, expires, status),
    's' .. store, struct.pack('>i8i8i8i8i8',
        clearing + due, collection - taken, granted - gift, paid - offset, pool + spent - earned))
return {0, principal, bonus, points}
