"""What a rule file does, in sentences: for whoever wrote it, to see whether it says what was meant."""

from collections.abc import Iterator

from onecard.rules.source import (
    Accrual,
    Band,
    Bundle,
    CardUnit,
    Channel,
    Discount,
    Fee,
    Gifts,
    Grant,
    GrowthValue,
    Limits,
    Product,
    PythonRule,
    Region,
    RuleFile,
    Stacked,
    Step,
    Tier,
    Trigger,
    Valid,
    When,
)


def sentences(rules: RuleFile) -> Iterator[str]:
    """One after the other, in the order of the file's parts."""
    money = rules.units.money.name
    places = _count(rules.units.money.scale, "decimal place")
    yield f"Money is {money}, counted to {places}; points are called {rules.units.points.name}."
    for product in sorted(rules.products, key=lambda product: product.id):
        yield from _product(product, money)
    for category in sorted(rules.categories, key=lambda category: category.id):
        yield f"Goods of category {category.id} are called {category.name}."
    yield from map(_region, rules.regions)
    for tier in sorted(rules.tiers, key=lambda tier: tier.id):
        yield f"Tier {tier.id}, {tier.name}, from a growth value of {tier.from_} on{_benefits(tier)}."
    if rules.growth_value:
        yield _growth_value(rules.growth_value, money)
    for discount in sorted(rules.discounts, key=lambda discount: discount.id):
        yield f"Discount {discount.id}, {discount.name}: {_off(discount, money)}{_stacked(discount, money)}."
    for accrual in sorted(rules.accruals, key=lambda accrual: accrual.id):
        yield f"Accrual {accrual.id}, {accrual.name}: {_more(accrual, money)}{_stacked(accrual, money)}."
    yield from map(_python_rule, sorted(rules.python_rules, key=lambda rule: rule.id))
    yield from (_fee(fee, money) for fee in sorted(rules.fees, key=lambda fee: fee.id))
    yield from (_band(band, money) for band in rules.top_up_bonus)
    paying = {step.unit for step in rules.waterfall if step.pay == "unit"}
    for unit in sorted(rules.card_units, key=lambda unit: unit.id):
        yield f"Unit {unit.id}, {unit.name}: {_unit(unit, money, unit.name in paying)}{_scope(unit, money)}."
    for bundle in sorted(rules.bundles, key=lambda bundle: bundle.id):
        yield _bundle(bundle, money)
    if rules.gifts:
        yield from _gifts(rules.gifts, money)
    for trigger in sorted(rules.triggers, key=lambda trigger: trigger.id):
        yield _trigger(trigger)
    yield "A purchase is paid by " + ", then ".join(_step(step, money) for step in rules.waterfall) + "."
    yield from _unnamed(rules.waterfall)
    yield from map(_channel, sorted(rules.channels, key=lambda channel: channel.id))
    if rules.compounding:
        yield f"Points grow by {rules.compounding.daily_rate}% a day, paid by the growth funding."
    else:
        yield "Points do not grow."
    yield f"An authorisation holds for {_days(rules.holds.days)}, unless it says otherwise."
    grace = rules.refunds.grace_days
    yield "What comes back past its last date " + (f"is valid for {_days(grace)}." if grace else "lapses.")
    yield f"Local time may lie up to {rules.terminals.time_tolerance_hours} hours outside the business date."


# Products


def _product(product: Product, money: str) -> Iterator[str]:
    words = [
        f"{product.discount}% off every purchase, {product.points_per_money} points per {money} paid",
        *_extras(product, money),
        *_limits(product, money),
    ]
    yield f"Product {product.id}, {product.name}: " + "; ".join(words) + "."
    if product.named:
        limits = "; ".join(_limits(product.named, money)) or "none"
        yield f"Limits of product {product.id} instead of these if the holder's real name is known: {limits}."


def _extras(product: Product, money: str) -> Iterator[str]:
    """What only some products have."""
    if product.rebate:
        yield f"{product.rebate}% of what principal and cash pay comes back as bonus"
    if valid := product.points_valid:
        end = f", to the end of the {valid.until_end_of} in which those end"
        yield f"points earned are valid for {_days(valid.days)}" + end * (valid.until_end_of != "day")
    if product.points_per_day is not None:
        yield f"the purchases of a day earn at most {product.points_per_day} points"
    if product.bonus_valid_days:
        yield f"bonus of top-ups and rebates is valid for {_days(product.bonus_valid_days)}"
    if product.pin_above is not None:
        yield f"a PIN is asked for if more than {product.pin_above} {money} is due"
    if product.staff:
        yield "its cards are those of members of staff"


def _limits(limits: Limits, money: str) -> Iterator[str]:
    for words, limit in (
        ("a purchase", limits.purchase_max),
        ("a top-up", limits.top_up_max),
        ("the balance", limits.balance_max),
        ("the purchases of a day", limits.day_sum),
    ):
        if limit is not None:
            yield f"{words} at most {limit} {money}"
    if limits.day_count:
        yield f"at most {_count(limits.day_count, 'purchase')} a day"


def _region(region: Region) -> str:
    has = [
        *_listed("has", "store", sorted(region.stores)),
        *_listed("has the stores of", "merchant", sorted(region.merchants)),
    ]
    words = [f"lies in {region.within}"] * bool(region.within) + has
    return f"Region {region.name} {' and '.join(words) or 'has no stores of its own'}."


def _growth_value(growth: GrowthValue, money: str) -> str:
    earned = f"{growth.per_money} {growth.unit} per {money} paid" if growth.per_money else "granted only"
    return (
        f"Growth value is {earned}, counts for {_valid(growth.valid)}, and a tier is reviewed after "
        f"{_valid(growth.tier_valid)}."
    )


def _valid(valid: Valid) -> str:
    rounded = "" if valid.until_end_of == "day" else f", to the end of the {valid.until_end_of}"
    return _days(valid.days) + rounded


def _benefits(tier: Tier) -> str:
    return f": {', '.join(tier.benefits)}" if tier.benefits else ""


# Discounts and accruals

_DAYS = {
    "mon": "Mondays",
    "tue": "Tuesdays",
    "wed": "Wednesdays",
    "thu": "Thursdays",
    "fri": "Fridays",
    "sat": "Saturdays",
    "sun": "Sundays",
}
_STACKING = {
    "best": "only the best of these counts",
    "add": "it is added to the others",
    "exclusive": "where it applies no other does",
}


def _off(rule: Discount, money: str) -> str:
    if rule.value is not None:
        return f"{rule.value} {money} off"
    return f"{rule.rate}% off" + (f", at most {rule.max} {money}" if rule.max is not None else "")


def _more(rule: Accrual, money: str) -> str:
    if rule.factor is not None:
        words = f"{rule.factor} times the points of the product"
    elif rule.points_per_money is not None:
        words = f"{rule.points_per_money} points more per {money} paid"
    else:
        words = f"{rule.points} points more"
    return words + (f", at most {rule.max_points} more" if rule.max_points is not None else "")


def _stacked(rule: Stacked, money: str) -> str:
    priority = f", at priority {rule.priority}" if rule.priority else ""
    return f"{_when(rule.when, money)}; {_STACKING[rule.stacking]}{priority}"


def _when(when: When, money: str) -> str:
    """When a rule applies."""
    words = [
        *_listed("for", "product", when.products),
        *_listed("in", "store", sorted(when.stores)),
        *_listed("at", "merchant", sorted(when.merchants)),
        *_listed("in", "region", when.regions),
        *_listed("by", "channel", when.channels),
        *_listed("for", "tier", when.tiers),
        *_goods(when.categories),
        *_birthday(when.birthday),
    ]
    if when.weekdays:
        words.append("on " + ", ".join(name for day, name in _DAYS.items() if day in when.weekdays))
    words += _listed("on", "day", sorted(when.month_days), " of the month")
    if when.times:
        words.append("at " + ", ".join(f"{_clock(start)}-{_clock(end)}" for start, end in sorted(when.times)))
    if when.from_:
        words.append(f"from {when.from_}")
    if when.until:
        words.append(f"until {when.until}")
    if when.min_spend:
        words.append(f"from {when.min_spend} {money} on")
    return (" " + ", ".join(words)) if words else ""


def _python_rule(rule: PythonRule) -> str:
    lacking = "is refused" if rule.required else "is priced without it"
    return (
        f"Python rule {rule.id}, {rule.name}, version {rule.version}, is asked about every sale; one that it "
        f"does not answer in time {lacking}."
    )


def _goods(categories: list[str]) -> Iterator[str]:
    if categories:
        word = "goods of category" if len(categories) == 1 else "goods of categories"
        yield f"on {word} {', '.join(categories)}"


def _birthday(around: str | None) -> Iterator[str]:
    if around:
        when = {"day": "on", "week": "from three days before to three after", "month": "in the month of"}
        yield f"{when[around]} the holder's birthday"


def _listed(where: str, what: str, names: list[int] | list[str], of: str = "") -> Iterator[str]:
    if names:
        yield f"{where} {what if len(names) == 1 else what + 's'} {', '.join(map(str, names))}{of}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


# Fees

_FEE_OF = {"spend": "what is paid", "points": "what points pay"}
_FEE_WAYS = {
    "acceptor": "from the merchant of the store to that which issued the card",
    "card-merchant": "from the merchant that issued the card to that of the store",
}


def _fee(fee: Fee, money: str) -> str:
    least = f", at least {fee.min} {money}" if fee.min else ""
    most = f", at most {fee.max} {money}" if fee.max is not None else ""
    of = "cards of other merchants"
    if fee.card_merchants:
        (of,) = _listed("cards of", "merchant", sorted(fee.card_merchants))
    share = f"{fee.rate}% of {_FEE_OF[fee.of]}{least}{most}"
    return f"Fee {fee.id}, {fee.name}: {share}, {_FEE_WAYS[fee.paid_by]}, on {of}{_when(fee.when, money)}."


# Units, bundles, channels


def _unit(unit: CardUnit, money: str, pays: bool) -> str:
    match unit.kind:
        case "visits":
            return f"visits, each pays up to {unit.worth} {money}"
        case "time":
            return f"the right to a service for a time, each use pays up to {unit.worth} {money}"
        case "coupon":
            most = f", at most {unit.max} {money}" if unit.max is not None else ""
            value = f"{unit.rate}% of the list amount{most}" if unit.rate else f"{unit.value} {money}"
            if unit.funded == "store":
                return f"coupons, each lowers the price by {value}, borne by the store"
            return f"coupons, each pays {value}, borne by the issuer"
        case "value":
            return "pays by its step of the waterfall" if pays else "pays nothing: it has no step"
        case "growth":
            return "counts growth value, and is never spent"


def _scope(unit: CardUnit, money: str) -> str:
    """Where and when the unit is taken."""
    words = ""
    if unit.min_spend:
        words += f"; of a purchase from {unit.min_spend} {money} on"
    if unit.per_purchase:
        words += f"; at most {unit.per_purchase} in one purchase"
    if unit.stores:
        word = "stores" if len(unit.stores) > 1 else "store"
        words += f"; in {word} {', '.join(map(str, sorted(unit.stores)))} only"
    return words


def _bundle(bundle: Bundle, money: str) -> str:
    price = [f"{bundle.price} {money}"] * (bundle.price > 0) + [f"{bundle.points} points"] * (
        bundle.points > 0
    )
    way = f"is sold for {' and '.join(price)}" if price else "is granted without a price"
    most = _most("a card", bundle.per_card) + _most("all cards of a member", bundle.per_member)
    stock = f", while there are some of {bundle.stock}" if bundle.stock else ""
    parts = [_grant(grant, money) for grant in bundle.grants]
    parts += [f"goods, for which the store gets {bundle.worth} {money}"] * (bundle.worth > 0)
    return f"Bundle {bundle.id}, {bundle.name}, {way}{most}{stock}: {'; '.join(parts)}."


def _trigger(trigger: Trigger) -> str:
    """What is granted, and when."""
    match trigger.on:
        case "first-purchase":
            when = "for the first purchase of a card"
        case "purchase":
            when = f"for purchase number {trigger.nth} of a card"
        case "no-purchase":
            when = f"to a card that bought nothing for {_days(trigger.days)}"
        case "cadence":
            least = f", from {_days(trigger.purchase_days)} with a purchase on"
            when = f"to a card that bought nothing for {trigger.times} times its mean interval{least}"
        case "birthday":
            before = f", {_days(trigger.days)} before it" if trigger.days else ""
            when = f"to a member for the birthday{before}"
    scope = [*_listed("of", "product", trigger.products), *_listed("in", "store", sorted(trigger.stores))]
    where = ", ".join(["", *scope])
    what = f"bundle {trigger.bundle}" if trigger.tier is None else f"at least tier {trigger.tier}"
    return f"Trigger {trigger.id}, {trigger.name}: {what} is granted {when}{where}."


def _most(whom: str, count: int) -> str:
    times = "once" if count == 1 else f"{count} times"
    return f", to {whom} at most {times}" if count else ""


def _grant(grant: Grant, money: str) -> str:
    what = f"{grant.amount} {money} of bonus" if grant.unit == "bonus" else f"{grant.amount} {grant.unit}"
    words = []
    if grant.from_days:
        words.append(f"from {_days(grant.from_days)} later on")
    if grant.days:
        words.append(f"for {_days(grant.days)}")
    if grant.until:
        words.append(f"until {grant.until} at the latest" if grant.days else f"until {grant.until}")
    elif not grant.days:
        words.append("for ever")
    return f"{what}, valid {' '.join(words)}"


def _channel(channel: Channel) -> str:
    return f"What comes in by channel {channel.id}, {channel.name}, is collected by the {channel.collects}."


# What is given


def _band(band: Band, money: str) -> str:
    parts = [f"{band.bonus} {money}"] * (band.bonus > 0) + [f"{band.rate}% of the top-up"] * (band.rate > 0)
    words = f"gives a bonus of {' and '.join(parts) or 'nothing'}"
    more = [f"{band.points} points"] * (band.points > 0) + [f"one of {band.bundle}"] * (
        band.bundle is not None
    )
    words += f", and {' and '.join(more)}" if more else ""
    words += f"; {band.price}% of it is paid, the issuer bears the rest" if band.price != 100 else ""
    return f"A top-up from {band.from_} {money} on {words}."


def _gifts(gifts: Gifts, money: str) -> Iterator[str]:
    if gifts.enrolment is not None:
        yield f"Who becomes a member with a card is given one of {gifts.enrolment}, once."
    if gifts.first_purchase is not None:
        least = f" if it comes to {gifts.first_purchase_min} {money}" if gifts.first_purchase_min else ""
        yield f"The first purchase of a card brings one of {gifts.first_purchase}{least}."


# The waterfall


def _step(step: Step, money: str) -> str:
    what = {"unit": step.unit or "", "cards": "further cards"}.get(step.pay, step.pay)
    words = what if step.share == 100 else f"{what} (at most {step.share}% of the amount due)"
    if step.pay == "points":
        least = f", from {step.min_points} points on" if step.min_points else ""
        return f"{words} at {step.price} {money} a point{least}, if the request asks for it"
    if step.pay == "unit":
        least = f", from {step.min} on" if step.min else ""
        return f"{words} at {step.price} {money} each{least}"
    return words


def _unnamed(steps: list[Step]) -> Iterator[str]:
    """What pays without a step of its own."""
    named = {step.pay for step in steps}
    before = [what for what in ("coupons", "passes") if what not in named]
    after = [words for what, words in (("cards", "further cards"), ("cash", "cash")) if what not in named]
    parts = [f"{' and '.join(before)} before all these"] if before else []
    if after:
        parts.append(f"{' and '.join(after)} after them")
    if parts:
        yield f"What a request brings pays, too: {', '.join(parts)}."


def _days(days: int) -> str:
    return _count(days, "day")


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
