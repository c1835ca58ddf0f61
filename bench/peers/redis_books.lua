-- The books, counted: journal rows, sums of money and points over all accounts, cards with a purse below zero, and
-- the cards and stores that are not what they opened with plus their legs. A row with legs is 72 bytes longer.
local principals, bonuses, earnings, stores = {}, {}, {}, {}
local rows = redis.call('LLEN', 'journal')
for first = 0, rows - 1, 10000 do
    for _, row in ipairs(redis.call('LRANGE', 'journal', first, first + 9999)) do
        local _, code, terminal, _, _, _, card, place = struct.unpack('>BBI4I4I4I8c16', row)
        if code == 0 then
            local legs = {struct.unpack('>i8i8i8i8i8i8i8i8i8', row, place)}
            principals[card] = (principals[card] or 0) + legs[1]
            bonuses[card] = (bonuses[card] or 0) + legs[2]
            earnings[card] = (earnings[card] or 0) + legs[3] + legs[4]
            local store = redis.call('GET', 't' .. terminal)
            local sums = stores[store] or {0, 0, 0, 0, 0}
            for at = 1, 5 do sums[at] = sums[at] + legs[at + 4] end
            stores[store] = sums
        end
    end
end

local money, pool, negative, wrong_cards, wrong_stores = 0, 0, 0, 0, 0
for index = 0, @cards - 1 do
    local low = index * 87498949
    local number = string.format('%08d%08d', (index * 61803398 + math.floor(low / 1e8)) % 1e8, low % 1e8)
    local principal, bonus, points = struct.unpack('>i8i8i8', redis.call('GET', 'c' .. number))
    money, pool = money + principal + bonus, pool + points
    if principal < 0 or bonus < 0 or points < 0 then negative = negative + 1 end
    if principal ~= @opening + (principals[number] or 0) or bonus ~= @opening_bonus + (bonuses[number] or 0)
        or points ~= (earnings[number] or 0) then
        wrong_cards = wrong_cards + 1
    end
end
for store = 1, @stores do
    local cards = math.floor((@cards - store + @stores) / @stores)
    local opened = {0, -cards * @opening, -cards * @opening_bonus, 0, 0}
    local found = {struct.unpack('>i8i8i8i8i8', redis.call('GET', 's' .. store))}
    local sums, right = stores[tostring(store)] or {0, 0, 0, 0, 0}, true
    for at = 1, 5 do right = right and found[at] == opened[at] + sums[at] end
    if not right then wrong_stores = wrong_stores + 1 end
    money, pool = money + found[1] + found[2] + found[3] + found[4], pool + found[5]
end
return {rows, money, pool, negative, wrong_cards, wrong_stores}
