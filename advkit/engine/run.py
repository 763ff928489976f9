"""The loop: one for every attack. It keeps a fixed number of lanes full (continuous batching).

An example enters a lane, is asked about step by step, and leaves as soon as it is beaten or its steps are spent; the next
example takes the lane. So no batch runs half empty, memory does not grow with the number of examples, and the cost is the
sum of the steps that examples really needed. What leaves a lane waits for a verdict: full batches of candidates are put to
the caller's own model, and a candidate that it does not accept goes back to its lane.

Restarts and targets of one example follow one another, so that what an example needs, and what it becomes, does not
depend on who shares the batch; those of different examples share the lanes. So it is with the radii of a nested search
(advkit.engine.ladder): an example that is decided at one radius enters the lanes again at the next.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from advkit.core.attack import Ascent, Attack, State
from advkit.core.external import External
from advkit.core.goal import Goal, Untargeted
from advkit.core.rng import Rng, identify
from advkit.core.types import Tree, expand, join, rows
from advkit.engine.examples import Finished, Keep, Progress, Sink, Source
from advkit.engine.external import companies, company, fell_short, found_beyond, given_back, left_behind
from advkit.engine.ladder import Index, Ladder
from advkit.engine.lanes import Lanes, Waiting, is_better, joined, split
from advkit.engine.passes import Passes, chosen_probe
from advkit.engine.rivals import ranked
from advkit.errors import InputError, ThreatViolation

__all__ = ["Run", "Work"]

_BEYOND = (1e-5, 1e-4, 1e-3, 1e-2)  # how much farther than the nearest picture, by the search's model, is tried


class Run:
    """One attack on the examples of one source, at one radius or, nested, at many.

    ``forwards_at`` and ``backwards_at`` (R, N) count each example's passes at each radius.
    """

    def __init__(
        self,
        attack: Attack | Ladder,
        passes: Passes,
        source: Source,
        *,
        seed: int = 0,
        keep: Keep = "first",
        top: Tensor | None = None,
    ) -> None:
        """``top`` (N,) is the highest radius that is open for each example; without it, all are."""
        self.ladder = attack if isinstance(attack, Ladder) else Ladder([attack])
        if len(self.ladder) > 1 and keep != "first":
            raise ValueError(f"keep is {keep!r}; a nested search stops at the first success.")
        self.attack, self.passes, self.source = self.ladder.any, passes, source
        self.seed, self.keep = seed, keep
        self.goal = source.goal.to(passes.device)
        self.size = max(1, passes.batch_size // self.attack.probes)
        count = len(source)
        self.top = (torch.full((count,), len(self.ladder) - 1) if top is None else top).to(passes.device)
        self.forwards_at = torch.zeros(len(self.ladder), count, dtype=torch.long, device=passes.device)
        self.backwards_at = torch.zeros_like(self.forwards_at)
        self.taken = torch.zeros(count, dtype=torch.long, device=passes.device)  # steps at all radii
        self._rivals: Tensor | None = None
        self._entered = 0
        self._ready: list[Lanes] = []  # refuted claims: they go on where they were
        self._again: list[Lanes] = []  # next restarts and targets
        self._waiting: list[Waiting] = []

    @property
    def forwards(self) -> Tensor:
        """(N,) forward passes of each example."""
        return self.forwards_at.sum(0)

    @property
    def backwards(self) -> Tensor:
        """(N,) backward passes of each example."""
        return self.backwards_at.sum(0)

    @property
    def branches(self) -> int:
        """Runs of one example: restarts times targets."""
        return self.attack.restarts * (1 if self._rivals is None else self._rivals.shape[1])

    def go(self, sink: Sink, progress: Progress | None = None) -> None:
        """Run to the end; every example reaches the sink once."""
        if isinstance(self.attack, External):
            self._hand_over(self.attack, sink, progress)
            return
        lanes: Lanes | None = None
        work = Work(self, progress)
        while True:
            lanes = self._admit(lanes)
            if lanes is None:
                if not self._waiting:
                    return
                self._decide(sink, work)
                continue
            work.add(len(lanes.example))
            lanes = self._advance(lanes)
            if sum(len(w.point) for w in self._waiting) >= self.passes.batch_size:
                self._decide(sink, work)

    def _hand_over(self, attack: External, sink: Sink, progress: Progress | None) -> None:
        """Company by company, all of it done by another library; the verdict is the engine's."""
        if self.source.first is not None:
            raise InputError(f"{attack.name} chooses its own first points; leave out start.")
        outside, farthest, total = 0, 0.0, len(self.source)
        beaten, far = False, list[float]()
        place = torch.arange(total) if self.source.place is None else self.source.place.cpu()
        values = self.source.fetch([0])[0].numel() if total else 0
        for near in companies(place, company(values, self.passes.device)):
            index = near.to(self.passes.device)
            x = self.source.fetch(index.tolist()).to(self.passes.device)
            goal = self.goal.take(index)
            given = given_back(attack, self.passes, x, goal, self.seed)
            logits = self.passes.judge(given.x_adv)
            asked, eot = self.top[index], self.passes.eot
            self.forwards_at[asked, index] += eot * given.forwards.to(index.device) + self.passes.verdicts
            self.backwards_at[asked, index] += eot * given.backwards.to(index.device)
            none = torch.zeros_like(index)
            distance = attack.threat.distance(given.x_adv, x)
            success = goal.reached(logits) & ~given.outside
            margin = goal.margin(logits)
            sink(Finished(index, given.x_adv, success, logits.argmax(1), distance, none, none, margin))
            outside += int(given.outside.sum())
            farthest = max([farthest, *given.distance[given.outside].nan_to_num(torch.inf).tolist()])
            beaten = beaten or bool(success.any())
            if attack.minimal and not beaten and bool(given.outside.any()):
                reached = found_beyond(given, self.passes, goal)
                far += reached[reached.isfinite()].tolist()
                self.forwards_at[asked, index] += (
                    self.passes.verdicts * (given.outside & given.distance.isfinite()).long()
                )
            if progress is not None:
                progress(int(index[-1]) + 1, total)
        left_behind(attack, outside, farthest, total)
        fell_short(attack, [] if beaten else far)

    def _admit(self, lanes: Lanes | None) -> Lanes | None:
        """Fill free lanes: first what was refuted, then further restarts and targets, then new examples.

        New examples last, so that what is held at a time does not grow with their number.
        """
        free = self.size - (0 if lanes is None else len(lanes.example))
        for queue, begins in ((self._ready, False), (self._again, True)):
            while free > 0 and queue:
                entering, rest = split(queue.pop(0), free)
                if rest is not None:
                    queue.insert(0, rest)
                free -= len(entering.example)
                lanes = joined(lanes, self._begin(entering) if begins else entering)
        while free > 0 and self._entered < len(self.source):
            entering = self._enter(list(range(self._entered, min(self._entered + free, len(self.source)))))
            self._entered += len(entering.example)
            free -= len(entering.example)
            lanes = joined(lanes, entering)
        return lanes

    def _enter(self, indices: list[int]) -> Lanes:
        """New examples, at the start of their first branch."""
        x = self.source.fetch(indices).to(self.passes.device)
        index = torch.tensor(indices, device=x.device)
        zero = torch.zeros_like(index)
        if self.attack.targets and isinstance(self.goal, Untargeted):
            self._rank(index, x)
        lanes = Lanes(
            example=index,
            branch=zero,
            taken=zero,
            steps=zero,
            x=x,
            keys=Rng.of(self.seed, identify(x)).keys,
            reach=self.ladder.start(self.top[index], x),
            state=(),  # type: ignore[arg-type]
            best=x,
            best_rank=torch.full(index.shape, -torch.inf, dtype=x.dtype, device=x.device),
            best_hit=torch.zeros_like(index, dtype=torch.bool),
        )
        return self._begin(lanes)

    def _begin(self, lanes: Lanes) -> Lanes:
        """The attack's first state in the lanes' current branch."""
        goal, rng = self._goal(lanes), Rng(lanes.keys).fold(lanes.branch).fold("start")
        given = None if self.source.first is None else self.source.first(lanes.example.tolist()).to(lanes.x)

        def begin(attack: Attack, index: Index) -> Tree:
            x, aim, draws = lanes.x[index], goal.take(index), rng.take(index)
            # A caller's point may lie a rounding error outside.
            first = attack.first(x, aim, draws) if given is None else attack.threat.project(given[index], x)
            further = lanes.branch[index] * attack.restarts >= self.branches
            if given is None and bool(further.any()):
                first = torch.where(expand(further, x), attack.again(lanes.best[index], x, aim, draws), first)
            if lanes.reach.found is not None:
                # What was found at a larger radius, pulled back, is a better start than any other.
                warm = lanes.reach.won[index] & (lanes.branch[index] == 0)
                first = torch.where(expand(warm, x), attack.threat.project(lanes.reach.found[index], x), first)
            return attack.start(first, x, aim, draws)

        return lanes._replace(state=self.ladder.apart(lanes.reach.rung, begin), taken=torch.zeros_like(lanes.taken))

    def _rank(self, index: Tensor, x: Tensor) -> None:
        """Rival classes in the attack's order."""
        found = ranked(self.attack, self.passes, x, self.goal.classes[index])
        self.forwards_at[self.top[index], index] += found.forwards
        self.backwards_at[self.top[index], index] += found.backwards
        if self._rivals is None:
            self._rivals = torch.zeros(len(self.source), found.order.shape[1], dtype=torch.long, device=x.device)
        self._rivals[index] = found.order

    def _goal(self, lanes: Lanes) -> Goal:
        goal = self.goal.take(lanes.example)
        if self._rivals is not None and isinstance(goal, Untargeted):
            return replace(goal, towards=self._rivals[lanes.example, lanes.branch % self._rivals.shape[1]])
        return goal

    def _advance(self, lanes: Lanes) -> Lanes | None:
        """Ask once, step once; who claims success or has spent the steps leaves for the verdict."""
        goal = self._goal(lanes)
        rng = Rng(lanes.keys).fold(lanes.branch).fold(lanes.taken)
        if self.attack.steps > 0:
            self.taken[lanes.example] += 1
            at, point, loss, hit = self._look(lanes, goal, rng)
            point, hit, rank = self._ranked(lanes, point, loss, hit)
            better = is_better(lanes, rank, hit)
            lanes = lanes._replace(
                state=self._stepped(lanes, at, goal, rng.fold("step")),
                taken=lanes.taken + 1,
                steps=lanes.steps + 1,
                best=torch.where(expand(better, point), point, lanes.best),
                best_rank=torch.where(better, rank, lanes.best_rank),
                best_hit=lanes.best_hit | hit,
            )
        else:
            point, hit = lanes.x, torch.zeros_like(lanes.best_hit)
        claimed = hit if self.keep == "first" else torch.zeros_like(hit)
        spent = lanes.taken >= self.ladder.steps(lanes.reach.rung)
        hopeless = self.attack.gives_up(lanes.state)  # told by the state, whatever the radius
        spent = spent if hopeless is None else spent | hopeless
        leaving = claimed | spent
        if not bool(leaving.any()):
            return lanes
        out = rows(lanes, leaving)
        point = torch.where(expand(claimed, point), point, self._last_point(lanes))[leaving]
        self._waiting.append(Waiting(out, point, spent[leaving] & ~claimed[leaving]))
        staying = ~leaving
        return rows(lanes, staying) if bool(staying.any()) else None

    def _stepped(self, lanes: Lanes, at: Ascent, goal: Goal, rng: Rng) -> State:
        """Each lane's next state."""

        def step(attack: Attack, index: Index) -> Tree:
            grad = at.grad[index] if len(at.grad) else at.grad  # who is told scores only has none
            told = Ascent(at.loss[index], at.logits[index], grad)
            return attack.step(rows(lanes.state, index), told, lanes.x[index], goal.take(index), rng.take(index))

        state: State = self.ladder.apart(lanes.reach.rung, step)
        return state

    def _look(self, lanes: Lanes, goal: Goal, rng: Rng) -> tuple[Ascent, Tensor, Tensor, Tensor]:
        """The model's answer, and the point it judges with its loss (B,) and whether the goal is reached there (B,)."""
        attack, query = self.attack, lanes.state.query
        if query.ndim > lanes.x.ndim:
            return self._look_at_probes(query, goal, lanes)
        if attack.tells == "gradient":
            view_rng = rng.fold("view")
            early = self.passes.precision.is_early(lanes.taken, self.ladder.steps(lanes.reach.rung))

            def view(points: Tensor, index: Tensor) -> Tensor:
                draws, count = view_rng.take(index), attack.views
                if count > 1:
                    points, index = (rows.repeat_interleave(count, 0) for rows in (points, index))
                    draws = view_rng.take(index).fold(
                        torch.arange(count, device=points.device).repeat(len(index) // count)
                    )
                shown: Tensor = self.ladder.apart(
                    lanes.reach.rung[index], lambda attack, part: attack.view(points[part], draws.take(part))
                )
                return shown

            at = self.passes.gradient(query, goal, attack.loss, view, early, attack.views)
            self._count(self.backwards_at, lanes, attack.views * self.passes.eot)
            self._count(self.forwards_at, lanes, attack.views * self.passes.eot)
        else:
            at = self.passes.scores(query, goal, attack.loss)
            self._count(self.forwards_at, lanes, self.passes.eot)
        point = self._candidate(lanes)
        if point is None:
            return at, query, at.loss, goal.reached(at.logits)
        seen = self.passes.scores(point, goal, attack.loss)
        self._count(self.forwards_at, lanes, self.passes.eot)
        return at, point, seen.loss, goal.reached(seen.logits)

    def _look_at_probes(self, query: Tensor, goal: Goal, lanes: Lanes) -> tuple[Ascent, Tensor, Tensor, Tensor]:
        """Probes (B, P, ...) are rows like any other."""
        count, probes = query.shape[:2]
        flat_goal = goal.take(torch.arange(count, device=query.device).repeat_interleave(probes))
        at = self.passes.scores(query.flatten(0, 1), flat_goal, self.attack.loss)
        self._count(self.forwards_at, lanes, probes * self.passes.eot)
        hits = flat_goal.reached(at.logits).reshape(count, probes)
        at = Ascent(at.loss.reshape(count, probes), at.logits.reshape(count, probes, -1), at.grad)
        return at, *chosen_probe(at, query, hits)

    def _last_point(self, lanes: Lanes) -> Tensor:
        """Where the attack stands when its steps are spent."""
        point = self._candidate(lanes)
        if point is None:
            query = lanes.state.query
            point = query[:, 0] if query.ndim > lanes.x.ndim else query
        if not (self.attack.minimal or self.attack.strays):
            return point
        inside: Tensor = self.ladder.apart(
            lanes.reach.rung, lambda attack, index: attack.threat.project(point[index], lanes.x[index])
        )
        return inside

    def _candidate(self, lanes: Lanes) -> Tensor | None:
        """The points to be judged where they are not the queries."""
        point: Tensor | None = self.ladder.apart(
            lanes.reach.rung, lambda attack, index: attack.candidate(rows(lanes.state, index))
        )
        return point

    def _count(self, passes: Tensor, lanes: Lanes, each: int = 1) -> None:
        """So many passes more of each lane's example, at its radius."""
        passes[lanes.reach.rung, lanes.example] += each

    def _decide(self, sink: Sink, work: Work) -> None:
        """Put all that waits to the caller's own model; send each to the sink, back to its lane or to its next branch."""
        waiting = self._waiting[0]
        for more in self._waiting[1:]:
            waiting = join(waiting, more)
        self._waiting = []
        lanes, point, final = waiting
        goal = self._goal(lanes)
        self._verify(point, lanes)
        logits = self.passes.judge(point)
        self._count(self.forwards_at, lanes, self.passes.verdicts)
        reached = goal.reached(logits)

        point, reached, rank = self._ranked(lanes, point, self.attack.loss(logits, goal), reached)
        # A claim that is not upheld must not stay the best: it is no success on the caller's model.
        better = is_better(lanes, rank, reached) | (~final & ~reached & lanes.best_hit)
        lanes = lanes._replace(
            best=torch.where(expand(better, point), point, lanes.best),
            best_rank=torch.where(better, rank, lanes.best_rank),
            best_hit=torch.where(final, lanes.best_hit | reached, reached),
        )
        refuted = ~final & ~reached
        over = refuted & (lanes.taken >= self.ladder.steps(lanes.reach.rung))
        if bool((refuted & ~over).any()):
            self._ready.append(rows(lanes, refuted & ~over))
        if bool(over.any()):
            ended = rows(lanes, over)
            self._waiting.append(Waiting(ended, self._last_point(ended), torch.ones_like(ended.best_hit)))
        beaten = reached if self.keep != "best" else reached | (final & lanes.best_hit)
        if self.attack.minimal and self.keep == "best":
            beaten = torch.zeros_like(beaten)  # another start or rival may lie nearer
        next_branch = final & ~beaten & (lanes.branch + 1 < self.branches)
        if bool(next_branch.any()):
            ahead = rows(lanes, next_branch)
            self._again.append(ahead._replace(branch=ahead.branch + 1))
        done = ~refuted & ~next_branch
        if bool(done.any()):
            lanes, point = rows(lanes, done), point[done]
            success = self._finish(lanes, point, logits[done], reached[done], sink)
            self._climb(lanes, point, success, work)

    def _climb(self, lanes: Lanes, point: Tensor, beaten: Tensor, work: Work) -> None:
        """Examples that are decided at their radius go to the next one that is open, or are over."""
        reach, still_open = lanes.reach.after(beaten, point)
        lanes = lanes._replace(
            reach=reach,
            branch=torch.zeros_like(lanes.branch),
            steps=torch.zeros_like(lanes.steps),
            best=lanes.x,
            best_rank=torch.full_like(lanes.best_rank, -torch.inf),
            best_hit=torch.zeros_like(lanes.best_hit),
        )
        if not bool(still_open.all()):
            work.skip(lanes.example[~still_open])
        found = None if reach.found is None else reach.found[still_open]
        if found is None or not len(found):
            return
        lanes = self._begin(rows(lanes, still_open))
        # Who is still open has been beaten: that picture, pulled back, is tried before a search is paid for.
        pulled = self.ladder.apart(
            lanes.reach.rung, lambda attack, index: attack.threat.project(found[index], lanes.x[index])
        )
        self._waiting.append(Waiting(lanes, pulled, torch.zeros_like(lanes.best_hit)))

    def _finish(self, lanes: Lanes, point: Tensor, logits: Tensor, reached: Tensor, sink: Sink) -> Tensor:
        """Choose what comes back, and hand over; says which examples are beaten."""
        success, prediction, x_adv = reached, logits.argmax(1), point
        margin = self._goal(lanes).margin(logits)
        if self.keep == "best" or (self.keep == "first" and not bool(reached.all())):
            stood = lanes.best_hit.new_ones(()) if self.keep == "best" else ~reached
            x_adv = torch.where(expand(stood, point), lanes.best, point)
            changed = (x_adv != point).flatten(1).any(1)
            if bool(changed.any()):
                self._verify(x_adv[changed], rows(lanes, changed))
                seen = self.passes.judge(x_adv[changed])
                self._count(self.forwards_at, rows(lanes, changed), self.passes.verdicts)
                prediction = prediction.index_put((changed,), seen.argmax(1))
                aim = self._goal(rows(lanes, changed))
                success = success.index_put((changed,), aim.reached(seen))
                margin = margin.index_put((changed,), aim.margin(seen))
        if self.attack.minimal and self.keep == "best":
            x_adv, success, prediction, margin = self._outward(lanes, x_adv, success, prediction, margin)
        distance = self.attack.threat.distance(x_adv, lanes.x)
        sink(Finished(lanes.example, x_adv, success, prediction, distance, lanes.steps, lanes.reach.rung, margin))
        return success

    def _ranked(self, lanes: Lanes, point: Tensor, loss: Tensor, hit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a point, its loss and whether it reaches the goal come to: (point, hit, rank), the higher rank the better.

        The rank is the loss. Where an attack may ask outside its ball, a hit counts inside, and what lies outside is shown as
        nothing found; of the hits of a minimal-norm attack the nearer one ranks higher.
        """
        if not (self.attack.minimal or self.attack.strays):
            return point, hit, loss
        inside = self._inside(lanes, point)
        hit, rank = hit & inside, loss.where(inside, -torch.inf)
        if self.attack.minimal:
            distance = self.attack.threat.distance(point, lanes.x)
            rank = torch.where(hit, -distance.to(loss.dtype), rank)
        return torch.where(expand(inside, point), point, lanes.best), hit, rank

    def _inside(self, lanes: Lanes, point: Tensor) -> Tensor:
        """(B,) bool: in the ball and the box, measured in float64."""
        inside: Tensor = self.ladder.apart(
            lanes.reach.rung, lambda attack, index: attack.threat.contains(point[index], lanes.x[index])
        )
        return inside

    def _outward(
        self, lanes: Lanes, x_adv: Tensor, success: Tensor, prediction: Tensor, margin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Nearest pictures stand on the boundary, where the caller's model may see rounding otherwise: a little beyond it."""
        for beyond in _BEYOND:
            where = (lanes.best_hit & ~success).nonzero().squeeze(1)
            if not len(where):
                break
            part = rows(lanes, where)
            further = (part.x + (1 + beyond) * (x_adv[where] - part.x)).clamp(0, 1)
            logits = self.passes.judge(further)
            self._count(self.forwards_at, part, self.passes.verdicts)
            goal = self._goal(part)
            won = goal.reached(logits) & self._inside(part, further)
            x_adv = x_adv.index_put((where[won],), further[won])
            prediction = prediction.index_put((where[won],), logits.argmax(1)[won])
            success = success.index_put((where[won],), won[won])
            margin = margin.index_put((where[won],), goal.margin(logits)[won])
        return x_adv, success, prediction, margin

    def _verify(self, point: Tensor, lanes: Lanes) -> None:
        """Raise ThreatViolation unless every point is in its ball, measured in float64."""
        inside = self._inside(lanes, point)
        if not bool(inside.all()):
            bad = int((~inside).nonzero()[0])
            attack = self.ladder.attacks[int(lanes.reach.rung[bad])]
            raise ThreatViolation(
                f"{attack} returned a point at distance {float(attack.threat.distance(point, lanes.x)[bad])!r} for example "
                f"{int(lanes.example[bad])}, outside {attack.threat.label} or [0, 1]: the attack is broken, no number is valid."
            )


class Work:
    """Counts steps done against the steps there would be if no example left early."""

    def __init__(self, run: Run, progress: Progress | None) -> None:
        self.run, self.progress, self.done = run, progress, 0

    def add(self, steps: int) -> None:
        """So many steps were done."""
        self.done += steps
        self._tell()

    def skip(self, example: Tensor) -> None:
        """These examples are over, before all their steps."""
        self.done += int((self._most(self.run.top[example]) - self.run.taken[example]).clamp_min(0).sum())
        self._tell()

    def _most(self, top: Tensor) -> Tensor:
        """(B,) the steps that examples may take: a search that fails, and as much again for those that do not."""
        return max(1, self.run.attack.steps) * self.run.branches * (1 + (top > 0))

    def _tell(self) -> None:
        if self.progress is not None:
            total = int(self._most(self.run.top).sum())
            self.progress(min(self.done, total), total)
