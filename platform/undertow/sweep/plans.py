"""The plan of a sweep: what a study needs, and the tables that `--plan` prints.

    make_plan    references pinned, artifacts and their keys, those that the storage lacks
    show_plan    conditions, system messages, missing artifacts, estimates of time and cost

`--plan` imports this file and not `sweep.run`, which needs NumPy and what makes artifacts.
"""

from rich.console import Console

from undertow.cluster.bf16 import all_support_bf16
from undertow.planning import capacity, length_checks, timings
from undertow.planning import plan as planning
from undertow.planning.costs import Hardware
from undertow.planning.estimate import WaveEstimate, estimate
from undertow.planning.given_models import is_made, template_behaviour_of
from undertow.planning.hub import offline_note
from undertow.planning.plan import Plan
from undertow.planning.precision import precision_note
from undertow.planning.resolve import resolve
from undertow.prompts.chat_templates import thinking_in_words
from undertow.report import plan_tables
from undertow.report.table_texts import print_table
from undertow.storage.store import Store
from undertow.study.study import Study
from undertow.sweep.progress import print_line

ON_ONE_GPU = Hardware()


def make_plan(study: Study, store: Store) -> Plan:
    """The plan of a study as its file gives it: pins reference models and finds cached artifacts."""
    resolved = resolve(study, all_support_bf16)
    conditions = resolved.all_conditions
    given = {r.untuned for c in conditions for r in c.models}
    rewriters = {condition.generation.rewriter for condition in conditions}
    given |= {rewriter.model.untuned for rewriter in rewriters if rewriter and rewriter.model}
    references = {reference for reference in given if is_made(reference)}
    return planning.make(resolved, store, references)


def show_plan(
    plan: Plan, store: Store, console: Console, hardware: Hardware = ON_ONE_GPU, every: bool = False
) -> None:
    """Prints the conditions, their system messages, the missing artifacts, and estimates of time and cost.

    Args:
        every: print one line per condition even if there are very many.
    """
    print_table(plan_tables.plan_table(plan, every), console)
    references = plan.study.references
    templates = {reference.label: template_behaviour_of(reference) for reference in references}
    default_systems = {name: found.own_system for name, found in templates.items() if found}
    if systems := plan_tables.systems_table(plan.study, default_systems):
        print_table(systems, console)
    for name, found in templates.items():
        if found and (thinking := thinking_in_words(found)):
            print_line(f"{name}: {thinking}", console)
    notes = [note(reference) for note in (offline_note, precision_note) for reference in references]
    notes += [condition.format.data_note for condition in plan.study.conditions]
    for line in dict.fromkeys(filter(None, notes)):
        print_line(line, console)
    waves = estimates(plan, store, hardware)
    print_table(plan_tables.work_table(waves), console)
    if any(wave.has_cost for wave in waves):
        console.print(hardware.assumptions, style="dim", highlight=False, markup=False)
    warnings = length_checks.context_notes(plan)
    for note in (*capacity.notes(plan, store, hardware.layout, hardware.gpu), *warnings):
        print_line(note, console)


def estimates(plan: Plan, store: Store, hardware: Hardware = ON_ONE_GPU) -> list[WaveEstimate]:
    """Time and cost of each wave, from the speed that earlier sweeps on this storage measured."""
    return estimate(plan, timings.read(store), hardware)
