"""How a deploy is shown and asked about: the plan, its diff and cost, the steps as they are done."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from lakectl import config
from lakectl.config import LOCAL, Lake
from lakectl.deploy import bundle, costs, diff, executor, facts, planner, render
from lakectl.deploy.facts import Stage
from lakectl.deploy.model import Canary, Deployment, Event, Plan, ResourceDiff, Wanted
from lakectl.errors import InfrastructureError, UsageError
from lakectl.ui import Screen, seconds, visible
from lakectl.words import plural

_SIGNS = {"add": "+", "modify": "~", "remove": "-", "adopt": "<"}
_SHOWN_PROPERTIES = 8
_SHOWN_VALUE = 70


def stage_of(lake: Lake) -> Lake:
    """``deploy`` without any stage means ``dev``: the local one needs no deploy."""
    explicit = next((setting.origin for setting in lake.settings if setting.key == "stage"), "default")
    if lake.stage == LOCAL and explicit == "default":
        table = lake.stages.get("dev", {})
        return dataclasses.replace(
            lake,
            stage="dev",
            profile=lake.profile or table.get("profile"),
            region=lake.region or table.get("region"),
        )
    return lake


def write_templates(screen: Screen, lake: Lake, directory: str) -> None:
    """``--render``: the templates and parameters as files; no AWS."""
    settings = facts.settings_of(lake)
    rendered = render.render(settings)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {
        "ImageUri": "(repository@sha256:…, after the image is pushed)",
        "BundleKey": bundle.bundle(lake).key,
        "HandlerKey": bundle.handler(render.handler_source()).key,
        "EngineVersion": settings.engine_version,
        "KeyArn": "(output KeyArn of the bootstrap stack)",
    }
    files = {
        "bootstrap.yaml": rendered.bootstrap,
        "pipeline.yaml": rendered.pipeline,
        "parameters.json": json.dumps({name: parameters[name] for name in rendered.parameters}, indent=2) + "\n",
        "tags.json": json.dumps(dict(settings.all_tags), indent=2) + "\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    if screen.json:
        screen.document({"directory": str(folder), "files": sorted(files)})
        return
    for name in files:
        screen.line(f"written  {folder / name}")


def deploy(
    screen: Screen, lake: Lake, *, only_plan: bool, build_with: str | None, yes: bool, skip_canary: bool
) -> None:
    """Look, show, ask, do."""
    stage = facts.open_stage(lake)
    _name(screen, stage)
    wanted, parts = facts.wanted_of(stage, builder=build_with)
    plan = _planned(stage, wanted)
    if skip_canary:
        plan = dataclasses.replace(plan, steps=tuple(step for step in plan.steps if not isinstance(step, Canary)))
    _carry_out(screen, stage, wanted, parts, plan, only_plan=only_plan, yes=yes)


def rollback(screen: Screen, lake: Lake, which: str | None, *, yes: bool) -> None:
    """The same with what an earlier deploy wanted."""
    stage = facts.open_stage(lake)
    _name(screen, stage)
    now, parts = facts.wanted_of(stage)
    wanted = facts.earlier(stage, now, which)
    plan = _planned(stage, wanted)
    _carry_out(screen, stage, wanted, parts, plan, only_plan=False, yes=yes)


def show_history(screen: Screen, lake: Lake) -> None:
    """``rollback --list``."""
    found = facts.history(facts.open_stage(lake))
    if screen.json:
        screen.document([dataclasses.asdict(item) for item in found])
        return
    if not found:
        screen.remark("no deploy yet; the first one: lakectl deploy")
        return
    screen.table(
        ("at", "by", "lakectl", "image", "transforms"),
        [
            (item.at, item.by.rpartition("/")[2], item.lakectl, item.image.rpartition(":")[2][:12], item.bundle[8:20])
            for item in found
        ],
    )


def _planned(stage: Stage, wanted: Wanted) -> Plan:
    known = facts.gather(stage, wanted)
    plan = planner.plan(wanted, known)
    notes = plan.notes
    if known.pipeline.status is None:
        notes = (*notes, *facts.preflight(stage))
    return dataclasses.replace(plan, diff=diff.with_replacements(plan.diff, facts.create_only(stage)), notes=notes)


def _carry_out(
    screen: Screen, stage: Stage, wanted: Wanted, parts: facts.Parts, plan: Plan, *, only_plan: bool, yes: bool
) -> None:
    idle = costs.idle(stage.settings)
    document: dict[str, Any] = {
        "stage": stage.lake.stage,
        "account": stage.aws.account,
        "region": stage.aws.region,
        "changed": bool(plan.steps),
        "steps": [{"step": type(step).__name__, "sentence": step.sentence, "seconds": None} for step in plan.steps],
        "diff": [_diff_shape(change) for change in plan.diff],
        "notes": list(plan.notes),
        "monthly_idle_usd": round(idle.total, 2),
    }
    if not plan.steps:
        if not only_plan:
            config.remember_stage(stage.lake)
        if screen.json:
            screen.document(document)
        else:
            screen.line("nothing to do: the stage is as it should be")
        return
    if not screen.json:
        _show(screen, plan)
        screen.line(f"idle cost: about ${idle.total:,.2f} a month (list prices of {idle.as_of}; lakectl cost)")
    if only_plan:
        if screen.json:
            screen.document(document)
        return
    _confirm(screen, stage, plan, yes=yes)
    work = executor.Work(stage, wanted, parts, approve=lambda losses: _approve(screen, stage, losses, plan))
    taken = run_steps(screen, plan, work)
    _remember(stage, wanted, work)
    config.remember_stage(stage.lake)
    if screen.json:
        for item, spent in zip(document["steps"], taken, strict=True):
            item["seconds"] = spent
        screen.document(document)
        return
    screen.line(f"stage {stage.lake.stage} is ready ({seconds(sum(taken))})")
    screen.remark("next: lakectl upload FILE")


def run_steps(screen: Screen, plan: Plan, work: executor.Work) -> list[float]:
    """Carry out, telling each step; the seconds that each took."""
    taken = []
    for event in executor.execute(plan, work):
        _tell(screen, event, len(plan.steps))
        if event.kind == "done":
            taken.append(round(event.seconds or 0.0, 1))
    return taken


def _tell(screen: Screen, event: Event, count: int) -> None:
    match event.kind:
        case "begin":
            screen.remark(f"[{event.number}/{count}] {event.step.sentence}")
        case "progress":
            screen.remark(f"      {visible(event.text)}")
        case "done":
            screen.remark(f"      done in {seconds(event.seconds)}")


def _show(screen: Screen, plan: Plan) -> None:
    for note in plan.notes:
        screen.warn(note)
    for number, step in enumerate(plan.steps, 1):
        screen.line(f"{number:>3}. {step.sentence}")
    if plan.diff:
        screen.line()
    for change in plan.diff:
        screen.line(_diff_line(change))
        for prop in change.properties[:_SHOWN_PROPERTIES]:
            before, after = _cut_pair(prop.before, prop.after)
            screen.line(f"      {prop.path}: {before} → {after}")
        if len(change.properties) > _SHOWN_PROPERTIES:
            screen.line(f"      … and {len(change.properties) - _SHOWN_PROPERTIES} more")
    if plan.diff:
        screen.line()


def _diff_line(change: ResourceDiff) -> str:
    sign = "±" if change.replaces == "yes" else _SIGNS[change.action]
    told = {"yes": "  REPLACED", "maybe": "  may be replaced"}.get(change.replaces, "")
    lost = f"  LOSES {change.precious}" if change.precious and change.replaces != "maybe" else ""
    return f"  {sign} {change.logical_id}  {change.type}{told}{lost}"


def _cut_pair(before: str | None, after: str | None) -> tuple[str, str]:
    """Two values cut to their differing part, where they are long and begin alike."""
    pairs = zip(before or "", after or "", strict=False)
    alike = next((n for n, (one, other) in enumerate(pairs) if one != other), 0)
    start = max(alike - 8, 0) if max(len(before or ""), len(after or "")) > _SHOWN_VALUE else 0
    return _cut(before, start), _cut(after, start)


def _cut(value: str | None, start: int) -> str:
    if value is None:
        return "(none)"
    text = ("…" if start else "") + visible(value[start:])
    return text if len(text) <= _SHOWN_VALUE else text[: _SHOWN_VALUE - 1] + "…"


def _diff_shape(change: ResourceDiff) -> dict[str, Any]:
    return {
        "action": change.action,
        "resource": change.logical_id,
        "type": change.type,
        "replaces": change.replaces,
        "properties": [dataclasses.asdict(prop) for prop in change.properties],
    }


def _confirm(screen: Screen, stage: Stage, plan: Plan, *, yes: bool) -> None:
    """A yes for the plan; the stage's name where data would be lost."""
    if plan.precious:
        if not _typed(screen, stage, f"this loses data; type {stage.lake.stage} to go on"):
            raise UsageError("not confirmed; nothing was changed", hint="type the stage's name when asked")
        return
    if yes:
        return
    if not screen.can_ask():
        raise UsageError("there is no one to ask", hint="add --yes to go on, or --plan to look only")
    if screen.ask("go on? (yes/no)", "yes").lower() not in ("y", "yes"):
        raise UsageError("not confirmed; nothing was changed", hint="lakectl deploy --plan")


def _typed(screen: Screen, stage: Stage, question: str) -> bool:
    return screen.can_ask() and screen.ask(question, "") == stage.lake.stage


def _approve(screen: Screen, stage: Stage, losses: Sequence[ResourceDiff], plan: Plan) -> bool:
    """What the plan has shown and the operator has confirmed needs no second question."""
    confirmed = {change.logical_id for change in plan.precious}
    fresh = [change for change in losses if change.logical_id not in confirmed]
    if not fresh:
        return True
    for change in fresh:
        screen.warn(_diff_line(change).strip())
    return _typed(screen, stage, f"CloudFormation would replace or remove this; type {stage.lake.stage} to go on")


def _remember(stage: Stage, wanted: Wanted, work: executor.Work) -> None:
    parameters = work.stacks.describe(wanted.pipeline_stack).parameters
    facts.remember(
        stage,
        Deployment(
            at=executor.now(),
            by=stage.aws.identity.arn,
            lakectl=metadata.version("lakectl"),
            image=parameters.get("ImageUri", ""),
            bundle=wanted.bundle_key,
            handler=wanted.handler_key,
            template=executor.template_key(wanted.pipeline),
            engine_version=parameters.get("EngineVersion", ""),
        ),
    )


def destroy(screen: Screen, lake: Lake, *, keep_data: bool, confirm: str | None, only_plan: bool, yes: bool) -> int:
    """Show, ask for the name, do, and look for what is left; 5 when something is."""
    if lake.stage == LOCAL:
        raise UsageError("the local stage is a folder", hint=f"rm -r {lake.state_dir}")
    stage = facts.open_stage(lake)
    _name(screen, stage)
    wanted, parts = facts.wanted_of(stage)
    known = facts.gather(stage, wanted)
    names = stage.settings.names
    doomed = planner.Doomed(names.prefix, names.cluster, names.database, names.family)
    plan = planner.plan_destroy(wanted, known, doomed, keep_data=keep_data)
    document: dict[str, Any] = {
        "stage": lake.stage,
        "account": stage.aws.account,
        "region": stage.aws.region,
        "steps": [{"step": type(step).__name__, "sentence": step.sentence, "seconds": None} for step in plan.steps],
        "kept": [names.raw_bucket, names.artifact_bucket] if keep_data else [],
        "survivors": [],
    }
    if not screen.json:
        _show(screen, plan)
    if only_plan:
        if screen.json:
            screen.document(document)
        return 0
    if plan.steps:
        _confirm_end(screen, stage, confirm, yes=yes, protected=known.pipeline.protected or known.bootstrap.protected)
    work = executor.Work(stage, wanted, parts)
    taken = run_steps(screen, plan, work)
    for item, spent in zip(document["steps"], taken, strict=True):
        item["seconds"] = spent
    left = executor.survivors(work)
    kept = [item for item in left if keep_data and (item.startswith("snapshot ") or _is_kept(item, document["kept"]))]
    document["kept"] = sorted(item.partition(" ")[2] for item in kept if " " in item)
    document["survivors"] = [item for item in left if item not in kept]
    _forget(lake)
    if screen.json:
        screen.document(document)
    else:
        screen.line(f"stage {lake.stage} is gone" if plan.steps else f"stage {lake.stage} is not there")
        for item in document["kept"]:
            screen.line(f"kept      {item}")
        for item in document["survivors"]:
            screen.line(f"survivor  {item}")
    if document["survivors"]:
        screen.error(
            InfrastructureError(
                f"{plural(len(document['survivors']), 'thing')} of the stage may still be there",
                hint="run lakectl destroy again in some minutes; what stays listed then, delete in the console",
            ),
            document=False,
        )
        return InfrastructureError.exit_code
    return 0


def _is_kept(item: str, buckets: Sequence[str]) -> bool:
    return any(item.endswith(bucket) for bucket in buckets)


def _confirm_end(screen: Screen, stage: Stage, confirm: str | None, *, yes: bool, protected: bool) -> None:
    name = stage.lake.stage
    if confirm is not None:
        if confirm != name:
            raise UsageError(f"--confirm {confirm} is not the stage's name", hint=f"--confirm {name}")
        return
    if yes and not protected:
        return
    if not screen.can_ask():
        raise UsageError("destroy wants the stage's name", hint=f"lakectl destroy --stage {name} --confirm {name}")
    if screen.ask(f"type {name} to delete all of this", "") != name:
        raise UsageError("not confirmed; nothing was changed", hint=f"lakectl destroy --stage {name}")


def _forget(lake: Lake) -> None:
    """The next command here works on the local stage again."""
    note = lake.state_dir / "stage"
    if note.is_file() and note.read_text(encoding="utf-8").strip() == lake.stage:
        note.unlink()


def _name(screen: Screen, stage: Stage) -> None:
    screen.remark(f"stage {stage.lake.stage} (account {stage.aws.account}, {stage.aws.region})")
    if other := facts.overruled_region(stage.lake):
        screen.warn(other)
