"""The policy's seat in an environment of verifiers: what the environment takes for an agent.

An environment of verifiers is a program that awaits an agent's words: `Env.run(task, agents)`. Here
that program is a task on an event loop that only runs between two calls of `step`: it runs until it
wants words of the policy, and stops there until the next response comes. The harness, the
interception server and the sandbox of verifiers, through which it would ask a model by HTTP, are
not part of this: the policy is sampled by this package's own engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import verifiers.v1 as vf
from verifiers.v1.dialects import parse_message
from verifiers.v1.session import call_hook
from verifiers.v1.state import state_cls
from verifiers.v1.utils.decorators import invoke

from rllib_dapo.envs.messages import Conversation, as_conversation
from rllib_dapo.envs.verify import MissingReason

_NO_SANDBOX = "verifiers' sandboxes are not run here, and the environment wants one"


class NoSandbox:
    """Stands where verifiers has a sandbox; whoever uses it is told that there is none."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"{_NO_SANDBOX} (runtime.{name})")


class Exchange:
    """Passes words between a program that awaits them and a caller that steps it.

    Attributes:
        loop: The event loop on which the program runs.
        asked: What the policy is to read next; None where the program has ended.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.asked: Conversation | None = None
        self._program: asyncio.Task[None] | None = None
        self._stop: asyncio.Future[None] | None = None
        self._reply: asyncio.Future[str | None] | None = None

    def begin(self, program: Any) -> None:
        """Runs a program until it asks something, or ends.

        Args:
            program: The coroutine.

        Raises:
            Exception: Whatever it raises.
        """
        self.abandon()
        self._program = self.loop.create_task(program)
        self._run()

    def answer(self, text: str | None) -> None:
        """Hands the policy's words to the program, and runs it on until it asks again, or ends.

        Args:
            text: The response; None: there will be none, since the episode is cut off.

        Raises:
            Exception: Whatever the program raises.
        """
        assert self._reply is not None
        self._reply.set_result(text)
        self._run()

    async def ask(self, messages: Conversation) -> str | None:
        """Returns what the policy writes; for the program."""
        assert self._stop is not None
        self._reply = self.loop.create_future()
        self.asked = messages
        self._stop.set_result(None)
        return await self._reply

    def abandon(self) -> None:
        """Ends a program that has not ended."""
        program, self._program = self._program, None
        if program is None or program.done():
            return
        program.cancel()
        # Whatever it raises at its end is of no interest any more.
        self.loop.run_until_complete(asyncio.gather(program, return_exceptions=True))

    def close(self) -> None:
        """Ends the program and the loop."""
        self.abandon()
        self.loop.close()

    def _run(self) -> None:
        program = self._program
        assert program is not None
        self.asked = None
        self._stop = self.loop.create_future()

        waited: list[Any] = [program, self._stop]
        self.loop.run_until_complete(asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED))
        if program.done():
            program.result()


class Seat:
    """An agent of verifiers, as far as environments use it: `run` and `interaction`.

    Attributes:
        trace: The one conversation of the episode; None before it begins.
        trainable: Set by verifiers' environments; every response is trained on here.
    """

    def __init__(self, config: Any, exchange: Exchange) -> None:
        """Takes a seat.

        Args:
            config: The agent's configuration, for the trace.
            exchange: Where the policy is asked.
        """
        self.trace: Any = None
        self.trainable = True
        self._config = config
        self._exchange = exchange

    async def run(self, task: Any, **borrowed: Any) -> Any:
        """Has the policy answer a task once, and scores that; see `verifiers.v1.Agent.run`."""
        self._refuse_borrowed(borrowed)
        async with self.interaction(task) as talk:
            await talk.turn()
        return talk.trace

    @asynccontextmanager
    async def interaction(self, task: Any, **borrowed: Any) -> AsyncIterator[Talk]:
        """Opens a conversation, and scores it at its end; see `verifiers.v1.Agent.interaction`."""
        self._refuse_borrowed(borrowed)
        if self.trace is not None:
            raise RuntimeError(
                "the environment begins a second conversation in one episode; here an episode is "
                "one conversation"
            )

        self.trace = trace = _new_trace(task, self._config)
        sandbox = NoSandbox()
        await invoke(task.setup, {"trace": trace, "runtime": sandbox})
        talk = Talk(trace, task, self)
        yield talk

        trace.stop("agent_completed")
        await invoke(task.finalize, {"trace": trace, "runtime": sandbox})
        await task.score(trace)
        trace.ok = True

    def provision(self, task: Any) -> Any:
        """Refuses to make a sandbox."""
        raise RuntimeError(_NO_SANDBOX)

    async def ask(self, messages: Conversation) -> str | None:
        """Asks the policy; see `Exchange.ask`."""
        return await self._exchange.ask(messages)

    def _refuse_borrowed(self, borrowed: dict[str, Any]) -> None:
        given = sorted(name for name, value in borrowed.items() if value)
        if given:
            raise RuntimeError(f"the environment gives the agent {', '.join(given)}: {_NO_SANDBOX}")


class Talk:
    """A conversation that an environment leads; see `verifiers.v1.Interaction`.

    Attributes:
        trace: What was said.
    """

    def __init__(self, trace: Any, task: Any, seat: Seat) -> None:
        self.trace = trace
        self._seat = seat
        self._opening: list[Any] | None = opening_messages(task.data)
        self._stops = task.hooks("stop")

    async def turn(self, message: Any = None) -> vf.Segment:
        """Says something, and returns what the policy answers.

        Args:
            message: A text or messages; None where the task's own prompt opens the conversation.

        Returns:
            The policy's answer; `terminated` where there is none, because a condition of the task
            has ended the conversation, or there are no turns left.
        """
        said = self._said(message)
        if self.trace.stop_condition is not None:
            return vf.Segment(messages=[], terminated=True)

        reply = await self._seat.ask(as_conversation([_plain(one) for one in said]))
        if reply is None:
            self.trace.stop("max_turns")
            return vf.Segment(messages=[], terminated=True)
        for one in said:
            self._record(one)
        answer = vf.AssistantMessage(content=reply)
        self._record(answer, sampled=True)
        await self._check_stops()
        return vf.Segment(messages=[answer])

    def _said(self, message: Any) -> list[Any]:
        opening, self._opening = self._opening, None
        if opening is not None and message is None:
            return opening
        if message is None:
            raise ValueError("there is nothing that the policy could answer: turn() has no message")
        if opening is not None and any(one.role != "system" for one in opening):
            raise ValueError("the task's own prompt opens the conversation: turn() comes first")
        messages = [message] if isinstance(message, str) else list(message)
        return [*(opening or []), *map(_as_message, messages)]

    def _record(self, message: Any, *, sampled: bool = False) -> None:
        nodes = self.trace.nodes
        parent = len(nodes) - 1 if nodes else None
        nodes.append(vf.MessageNode(message=message, parent=parent, sampled=sampled))

    async def _check_stops(self) -> None:
        for stop in self._stops:
            if await call_hook(stop, {vf.Trace: self.trace}):
                self.trace.stop(stop.__name__)


def opening_messages(data: Any) -> list[Any]:
    """Returns the messages with which a task opens a conversation: system message and prompt."""
    prompt = data.prompt
    said = [vf.UserMessage(content=prompt)] if isinstance(prompt, str) else list(prompt or [])
    if data.system_prompt:
        said.insert(0, vf.SystemMessage(content=data.system_prompt))
    return said


def missing_scores(trace: Any) -> str:
    """Returns the reason why a conversation has no reward; empty if it has one."""
    lacking = [name for name, reward in trace.rewards.items() if reward is None]
    if lacking:
        return f"{MissingReason.CRASH}: the task gave no score for {', '.join(lacking)}"
    if not trace.rewards:
        return f"{MissingReason.CRASH}: the task has no reward"
    return ""


def _new_trace(task: Any, config: Any) -> Any:
    described = vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
    return vf.Trace(
        task=described, state=state_cls(type(task))(), agent=vf.AgentInfo(config=config)
    )


def _as_message(message: Any) -> Any:
    if isinstance(message, str):
        return vf.UserMessage(content=message)
    return parse_message(message) if isinstance(message, dict) else message


def _plain(message: Any) -> dict[str, Any]:
    """Returns a message in the form that `as_conversation` reads, or refuses."""
    content = message.content
    parts = content if isinstance(content, str) else [part.model_dump() for part in content or []]
    plain: dict[str, Any] = {"role": message.role, "content": parts}
    calls = getattr(message, "tool_calls", None)
    return plain | {"tool_calls": calls} if calls else plain
