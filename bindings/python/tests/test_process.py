"""Importing starts nothing; forks, exits and reloads are survived."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def python(code: str, *, timeout: float = 120) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_importing_starts_no_thread_and_opens_no_socket() -> None:
    out = python(
        """
        import os, threading
        def descriptors():
            return {os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                    if os.path.exists(f"/proc/self/fd/{n}")}
        before = descriptors()
        import unified_scheduler, unified_scheduler_engine
        from unified_scheduler import Every, Scheduler
        scheduler = Scheduler("sqlite:///nowhere/at/all.db")
        scheduler.add_job(print, Every(minutes=1), args=["x"])
        assert threading.active_count() == 1
        assert len(os.listdir("/proc/self/task")) == 1
        assert not {d for d in descriptors() - before if "socket" in d}
        assert unified_scheduler.Scheduler is unified_scheduler_engine.Scheduler
        """
    )
    assert out == ""


@pytest.mark.parametrize("_round", range(5))
def test_a_program_that_ends_without_stopping_ends_cleanly(_round: int) -> None:
    python(
        """
        import asyncio, time
        from unified_scheduler_engine import Every, Manual, Scheduler
        scheduler = Scheduler("memory:")
        @scheduler.job(Every(seconds=0.01))
        async def tick(): ...
        @scheduler.job(Manual())
        def stuck(): time.sleep(3600)
        async def main():
            await scheduler.start()
            await scheduler.trigger("stuck")
            await asyncio.sleep(0.1)
        asyncio.run(main())
        """
    )


def test_ctrl_c_while_blocked_ends_the_wait() -> None:
    python(
        """
        import os, signal, threading, time
        from unified_scheduler_engine import SyncScheduler
        # A shell starts what runs in the background with the signal ignored, and Python leaves it so.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        scheduler = SyncScheduler("memory:")
        scheduler.start()
        interrupt = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        try:
            interrupt.start()
            scheduler.wait_stopped()
        except KeyboardInterrupt:
            scheduler.stop()
        else:
            raise SystemExit("not interrupted")
        """
    )


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
@pytest.mark.parametrize("started", [False, True])
def test_a_forked_child_gets_an_engine_of_its_own(started: bool, tmp_path: object) -> None:
    python(
        f"""
        import asyncio, os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from unified_scheduler_engine import Every, Manual, Scheduler
        scheduler = Scheduler("memory:" if {started} else "sqlite://{tmp_path}/jobs.db")
        @scheduler.job(Manual())
        async def work(): return str(os.getpid())
        def fork():
            pid = os.fork()
            if pid == 0:
                async def child():
                    assert not scheduler.running
                    async with scheduler:
                        run = await scheduler.wait_for(await scheduler.trigger("work"), 60)
                        assert run.ok, run
                try:
                    asyncio.events._set_running_loop(None)
                    asyncio.run(child())
                    os._exit(0)
                except BaseException as e:
                    import traceback; traceback.print_exc()
                    os._exit(1)
            return pid
        def ended(pid):
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        async def main():
            async with scheduler:
                # Not on the loop: this node may well claim what the child has triggered.
                assert await asyncio.to_thread(ended, fork()) == 0
                assert scheduler.running
                assert (await scheduler.wait_for(await scheduler.trigger("work"), 60)).ok
        if {started}:
            asyncio.run(main())
        else:
            assert ended(fork()) == 0
        """
    )


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_a_child_of_a_process_with_an_open_sqlite_file_is_refused_and_harms_nothing(tmp_path: object) -> None:
    python(
        f"""
        import asyncio, os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from unified_scheduler_engine import Manual, Scheduler, UnsupportedError
        scheduler = Scheduler("sqlite://{tmp_path}/jobs.db")
        @scheduler.job(Manual())
        async def work(): return "done"
        async def child():
            try:
                await scheduler.start()
            except UnsupportedError as error:
                assert str(os.getppid()) in str(error)
                return 0
            return 1
        async def main():
            async with scheduler:
                pid = os.fork()
                if pid == 0:
                    asyncio.events._set_running_loop(None)
                    os._exit(asyncio.run(child()))
                assert (await asyncio.to_thread(os.waitpid, pid, 0))[1] == 0
                assert (await scheduler.wait_for(await scheduler.trigger("work"), 60)).ok
        asyncio.run(main())
        """
    )


def test_two_loops_one_after_another_use_the_same_scheduler() -> None:
    python(
        """
        import asyncio
        from unified_scheduler_engine import Manual, Scheduler
        scheduler = Scheduler("memory:")
        @scheduler.job(Manual())
        async def work(): return "done"
        async def main():
            async with scheduler:
                return (await scheduler.wait_for(await scheduler.trigger("work"), 60)).message
        for _ in range(3):
            assert asyncio.run(main()) == "done"
        """
    )


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not for Windows")
def test_uvloop_serves_as_well() -> None:
    python(
        """
        import asyncio, uvloop
        from unified_scheduler_engine import Manual, Scheduler
        scheduler = Scheduler("memory:")
        @scheduler.job(Manual(), timeout=0.1)
        async def slow(): await asyncio.sleep(30)
        @scheduler.job(Manual())
        async def work(): return type(asyncio.get_running_loop()).__module__
        async def main():
            async with scheduler:
                assert (await scheduler.wait_for(await scheduler.trigger("slow"), 60)).status == "timeout"
                return (await scheduler.wait_for(await scheduler.trigger("work"), 60)).message
        assert uvloop.run(main()).startswith("uvloop")
        """
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks_leave_nothing_behind() -> None:
    python(
        """
        import asyncio
        from unified_scheduler_engine import Manual, Scheduler
        scheduler = Scheduler("memory:")
        @scheduler.job(Manual())
        async def work(): return "done"
        async def main():
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            async with scheduler:
                for _ in range(3):
                    assert (await scheduler.wait_for(await scheduler.trigger("work"), 60)).message == "done"
                assert scheduler.core._bridge.n_running == 0
        asyncio.run(main())
        """
    )


def test_a_loop_that_watches_no_descriptors_is_woken_by_a_thread() -> None:
    python(
        """
        import asyncio
        from unified_scheduler_engine import Manual, Scheduler
        class Loop(asyncio.SelectorEventLoop):
            def add_reader(self, fd, callback, *args):
                if getattr(callback, "__name__", "") == "_drain":
                    raise NotImplementedError
                return super().add_reader(fd, callback, *args)
        scheduler = Scheduler("memory:")
        @scheduler.job(Manual())
        async def work(): return "done"
        async def main():
            async with scheduler:
                for _ in range(3):
                    assert (await scheduler.wait_for(await scheduler.trigger("work"), 60)).message == "done"
        loop = Loop()
        loop.run_until_complete(main())
        loop.close()
        """
    )


def test_a_child_of_multiprocessing_gets_an_engine_of_its_own(tmp_path: object) -> None:
    python(
        f"""
        import asyncio, multiprocessing
        from unified_scheduler_engine import Manual, Scheduler
        scheduler = Scheduler("sqlite://{tmp_path}/jobs.db")
        @scheduler.job(Manual())
        async def work(): return "done"
        async def main():
            async with scheduler:
                return (await scheduler.wait_for(await scheduler.trigger("work"), 60)).message
        def child(answers): answers.put(asyncio.run(main()))
        fork = multiprocessing.get_context("fork")
        answers = fork.Queue()
        children = [fork.Process(target=child, args=(answers,)) for _ in range(2)]
        for process in children: process.start()
        assert [answers.get(timeout=60) for _ in children] == ["done", "done"]
        for process in children:
            process.join(60)
            assert process.exitcode == 0
        assert asyncio.run(main()) == "done"
        """
    )


@pytest.mark.parametrize("threads", [False, True])
def test_a_debugger_that_traces_every_line_disturbs_nothing(threads: bool) -> None:
    python(
        f"""
        import asyncio, sys, threading
        from unified_scheduler_engine import Manual, Scheduler
        seen = set()
        def trace(frame, event, arg):
            seen.add(frame.f_code.co_name)
            return trace
        if {threads}: threading.settrace(trace)
        sys.settrace(trace)
        scheduler = Scheduler("memory:")
        @scheduler.job(Manual(), timeout=0.2)
        async def slow(): await asyncio.sleep(30)
        @scheduler.job(Manual())
        async def on_loop(): return "done"
        @scheduler.job(Manual())
        def in_thread(): return "done"
        async def main():
            async with scheduler:
                for name, status in (("on_loop", "success"), ("in_thread", "success"), ("slow", "timeout")):
                    ended = await scheduler.wait_for(await scheduler.trigger(name), 60)
                    assert ended.status == status, ended
        asyncio.run(main())
        assert "on_loop" in seen
        assert ("in_thread" in seen) == {threads}
        """
    )


def test_debugpy_may_be_attached() -> None:
    python(
        """
        import asyncio, debugpy
        debugpy.listen(("127.0.0.1", 0), in_process_debug_adapter=True)
        debugpy.debug_this_thread()
        from unified_scheduler_engine import Manual, Scheduler
        scheduler = Scheduler("memory:")
        @scheduler.job(Manual())
        async def work(): return "done"
        async def main():
            async with scheduler:
                assert (await scheduler.wait_for(await scheduler.trigger("work"), 60)).message == "done"
        asyncio.run(main())
        """
    )


def test_two_loops_one_after_another_have_a_unified_scheduler_each(tmp_path: object) -> None:
    python(
        f"""
        import asyncio
        from unified_scheduler_engine import initialize_unified_scheduler, shutdown_unified_scheduler
        from unified_scheduler_engine import get_unified_scheduler
        url = "sqlite://{tmp_path}/jobs.db"
        async def main():
            ran = asyncio.Event()
            async def work(): ran.set()
            def configure(scheduler): scheduler.add_job("work", 0.2, work)
            scheduler = await initialize_unified_scheduler(None, configure=configure, store_url=url)
            await asyncio.wait_for(ran.wait(), 60)
            await shutdown_unified_scheduler()
            assert get_unified_scheduler() is None and not scheduler.is_running
        for _ in range(3):
            asyncio.run(main())
        """
    )
