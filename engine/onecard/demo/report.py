"""What a head office wants to see of the year, as tables in the terminal."""

from datetime import date, timedelta

from rich.console import Console
from rich.table import Table

from onecard.codes import Account
from onecard.demo.books import Costs, Figures, int128
from onecard.demo.chain import EPOCH
from onecard.demo.drive import Outcome
from onecard.demo.pricing import OWN

TOP = 5
# What of a day's figures adds up; the rest is as of its close.
SUMMED = [name for name, field in Figures.__dataclass_fields__.items() if field.type is int]


def dollars(cents: int) -> str:
    """An amount of cents as money, exactly."""
    return f"{'-' if cents < 0 else ''}${abs(cents) // 100:,}.{abs(cents) % 100:02}"


def points(units: int) -> str:
    """A number of 1/10,000 points as points, exactly."""
    return f"{'-' if units < 0 else ''}{abs(units) // 10_000:,}.{abs(units) % 10_000:04}"


def day(days: int) -> date:
    """A business date from its number of days since 1970-01-01."""
    return EPOCH + timedelta(days=days)


def total(days: list[Figures], name: str) -> int:
    """A figure over all days."""
    return sum(getattr(figures, name) for figures in days)


def show(console: Console, outcome: Outcome) -> None:
    """Print the report."""
    console.print(_year(outcome))
    console.print(_rules(outcome))
    console.print(_tiers(outcome))
    console.print(_stores(outcome))
    console.print(_conservation(outcome))
    console.print(_speed(outcome))
    for sentence, count in outcome.books.refused.items():
        console.print(f"[yellow]refused {count:,} times:[/] {sentence}")
    for sentence in outcome.problems:
        console.print("[bold red]wrong:[/]", end=" ")
        console.print(sentence, markup=False)
    if not outcome.problems:
        console.print(
            f"[bold green]Nothing was lost:[/] all {outcome.replay.transactions:,} answers, every close, "
            "every account and every store agree with the demo's own books, and the journal is whole."
        )


def _year(outcome: Outcome) -> Table:
    days, replay = outcome.books.days, outcome.replay
    last = days[-1]
    sums = {name: total(days, name) for name in SUMMED}
    table = _table(
        f"{day(days[0].date)} to {day(last.date)}, day by day in New York",
        ("", "figure", "of which, or how many"),
    )
    rows = (
        ("Business days closed", f"{len(days):,}", f"{outcome.baskets.lines:,} lines of receipts"),
        ("Cards", f"{last.cards:,}", f"{replay.stores - 1:,} stores, {replay.terminals - 1:,} tills"),
        ("Baskets", f"{replay.baskets:,}", f"{replay.baskets_of_nothing:,} came to nothing, not posted"),
        (
            "Sales",
            dollars(sums["sales"]),
            f"{sums['purchases']:,} purchases after {dollars(sums['discount'])} discount",
        ),
        ("  paid with points", dollars(sums["offset"]), "borne by the issuer"),
        ("  paid with coupons", dollars(sums["coupons"]), "borne by the issuer"),
        ("Top-ups", dollars(sums["topped_up"]), f"{sums['top_ups']:,}"),
        ("Bonus granted", dollars(sums["bonus"]), f"and {dollars(sums['rebates'])} of rebates"),
        ("  lapsed", dollars(sums["lapsed_bonus"]), "nobody spent it in time"),
        ("Left on the cards", dollars(last.stored), "principal and bonus"),
        ("Points earned", points(sums["earned"]), ""),
        ("Points spent", points(sums["spent"]), ""),
        ("Points grown", points(sums["grown"]), _growth_note(days)),
        ("Points lapsed", points(sums["lapsed_points"]), "nobody spent them in time"),
        ("Points in circulation", points(last.outstanding), "earned - spent + grown - lapsed"),
    )
    for row in rows:
        table.add_row(*row)
    return table


def costs_by_rule(outcome: Outcome) -> list[tuple[str, str, Costs]]:
    """Table, name and costs of every rule that ever counted; discounts first, then the dearest first."""
    tables = outcome.rules.tables
    names = {
        (table, rule["id"]): rule["name"]
        for table in ("discounts", "accruals")
        for rule in tables.get(table, [])
    }
    names["discounts", OWN] = "the products' own"
    order = sorted(outcome.books.costs.items(), key=lambda of: (of[0][0] != "discounts", -of[1].given))
    return [(table, names[table, rule], costs) for (table, rule), costs in order]


def _rules(outcome: Outcome) -> Table:
    """What each rule gave."""
    table = _table("What the rules gave", ("rule", "gave", "to so many purchases"))
    listed = costs_by_rule(outcome)
    for at, (kind, name, costs) in enumerate(listed):
        written = dollars(costs.given) if kind == "discounts" else f"{points(costs.given)} points"
        last = at + 1 == len(listed) or listed[at + 1][0] != kind
        table.add_row(name, written, f"{costs.purchases:,}", end_section=last)
    return table


def tier_names(outcome: Outcome) -> dict[int, str]:
    """The tiers by their ids, the lowest first; 0 is none."""
    return {0: "no tier"} | {tier["id"]: tier["name"] for tier in outcome.rules.tables.get("tiers", [])}


def _tiers(outcome: Outcome) -> Table:
    """How many cards have each tier after the last close, and had at the most."""
    days = outcome.books.days
    table = _table("Tiers after the last close", ("tier", "cards", "most of the year"))
    for tier, name in tier_names(outcome).items():
        most = max(figures.tiers[tier] for figures in days)
        table.add_row(name, f"{days[-1].tiers[tier]:,}", f"{most:,}")
    return table


def _growth_note(days: list[Figures]) -> str:
    refused = sum(figures.growth_refused for figures in days)
    return f"on {refused} days the funding was too small" if refused else "compounded and funded every day"


def _stores(outcome: Outcome) -> Table:
    """The stores at both ends: who took in more for cards than it sold against them, and the reverse."""
    table = _table("Between the stores, all days settled", ("is owed", "", "owes", ""))
    due = sorted(outcome.books.due.items(), key=lambda item: (item[1], item[0]))
    for (creditor, owed), (debtor, owing) in zip(reversed(due[-TOP:]), due[:TOP], strict=True):
        left = (f"store {creditor}", dollars(owed)) if owed > 0 else ("", "")
        right = (f"store {debtor}", dollars(-owing)) if owing < 0 else ("", "")
        table.add_row(*left, *right)
    stores = sum(due_of_store for _, due_of_store in due)
    table.caption = f"all stores together {dollars(stores)}, the issuer {dollars(-stores)}: zero"
    return table


def _conservation(outcome: Outcome) -> Table:
    """Every account of the engine beside the demo's own books, and the sum of every unit."""
    table = _table("Conservation", ("account", "engine", "own books", ""))
    told = {row.account: int128(row.total) for row in outcome.replay.trial.totals}
    trial = outcome.replay.trial
    for unit, in_points, written, engine_sum in (
        ("USD", False, dollars, int128(trial.money_sum)),
        ("POINTS", True, points, int128(trial.points_sum)),
    ):
        accounts = [account for account in Account if account.in_points == in_points and not account.in_units]
        own = outcome.books.accounts
        for account in accounts:
            if told.get(account, 0) or own[account]:
                name = account.name.replace("_", " ").lower()
                table.add_row(
                    name,
                    written(told.get(account, 0)),
                    written(own[account]),
                    _mark(told.get(account, 0) == own[account]),
                )
        own_sum = sum(own[account] for account in accounts)
        table.add_row(
            f"[bold]sum of {unit}[/]",
            written(engine_sum),
            written(own_sum),
            _mark(engine_sum == own_sum == 0),
            end_section=True,
        )
    names = {unit["id"]: unit["name"] for unit in outcome.rules.tables.get("units", [])}
    for row in trial.units:
        own_cards = outcome.books.units[row.unit]
        good = (int128(row.cards), int128(row.pool)) == (own_cards, -own_cards)
        table.add_row(f"on cards: {names[row.unit]}", f"{int128(row.cards):,}", f"{own_cards:,}", _mark(good))
    found = outcome.verification
    table.caption = (
        f"journal: {found.entries:,} entries in {found.blocks:,} blocks, {found.bytes:,} bytes, "
        f"{'whole' if not found.problems else 'NOT WHOLE'}\nchain ends in {found.head}"
    )
    return table


def _speed(outcome: Outcome) -> Table:
    replay = outcome.replay
    rate = replay.transactions / replay.seconds
    table = _table("Speed", ("phase", "seconds", ""))
    notes = {"replay": f"{replay.transactions:,} transactions over gRPC, {rate:,.0f}/s, closes included"}
    inner = (("register", replay.register_s), ("transact", replay.transact_s), ("close", replay.close_s))
    for phase, seconds in outcome.seconds.items():
        table.add_row(phase, f"{seconds:.2f}", notes.get(phase, ""))
        for name, part in inner if phase == "replay" else ():
            table.add_row(f"  {name}", f"{part:.2f}", "")
    return table


def _mark(good: bool) -> str:
    return "[green]✓[/]" if good else "[bold red]✗[/]"


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=f"\n[bold]{title}[/]", title_justify="left", caption_justify="left", show_edge=False)
    for number, column in enumerate(columns):
        right = number % 2 == 1 or "own" in column
        table.add_column(column, justify="right" if right else "left")
    return table
