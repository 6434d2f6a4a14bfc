"""Programs that wait, each in another way, and are not stuck: a dump must not accuse them.

Each is a coroutine function that waits until it is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import sys
import threading
import weakref

KEPT: list = []
GLOBAL_QUEUE: asyncio.Queue | None = None
LONG = 60


async def a_timer_sets_an_event():
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(LONG, event.set)
    await event.wait()


async def a_socket_sets_an_event():
    event = asyncio.Event()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        asyncio.get_running_loop().add_reader(ours, event.set)
        try:
            await event.wait()
        finally:
            asyncio.get_running_loop().remove_reader(ours)


async def a_signal_sets_an_event():
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR2, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_signal_handler(signal.SIGUSR2)


async def a_plain_signal_handler_sets_an_event():
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGUSR2, lambda *_: loop.call_soon_threadsafe(event.set))
    try:
        await event.wait()
    finally:
        signal.signal(signal.SIGUSR2, before)


async def a_thread_sets_an_event():
    event, over = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def later(event):
        over.wait(LONG)
        loop.call_soon_threadsafe(event.set)

    threading.Thread(target=later, args=(event,), daemon=True).start()
    try:
        await event.wait()
    finally:
        over.set()


async def a_timer_thread_sets_an_event():
    event = asyncio.Event()
    timer = threading.Timer(LONG, functools.partial(asyncio.get_running_loop().call_soon_threadsafe, event.set))
    timer.daemon = True
    timer.start()
    try:
        await event.wait()
    finally:
        timer.cancel()


async def a_child_process():
    process = await asyncio.create_subprocess_exec("sleep", str(LONG))
    try:
        await process.wait()
    finally:
        process.kill()
        await asyncio.shield(process.wait())


async def the_output_of_a_child_process():
    process = await asyncio.create_subprocess_exec("sleep", str(LONG), stdout=asyncio.subprocess.PIPE)
    try:
        await process.communicate()
    finally:
        process.kill()
        await asyncio.shield(process.wait())


async def a_job_of_an_executor():
    over = threading.Event()
    try:
        await asyncio.get_running_loop().run_in_executor(None, over.wait, LONG)
    finally:
        over.set()


async def more_jobs_than_threads():
    over = threading.Event()
    try:
        await asyncio.gather(*(asyncio.to_thread(over.wait, LONG) for _ in range(40)))
    finally:
        over.set()


async def a_queue_of_the_module():
    global GLOBAL_QUEUE
    GLOBAL_QUEUE = asyncio.Queue()
    other = asyncio.create_task(asyncio.sleep(LONG))
    try:
        await GLOBAL_QUEUE.get()
    finally:
        other.cancel()


class Service:
    def __init__(self):
        self.queue = asyncio.Queue()

    async def run(self):
        while True:
            await self.queue.get()


async def a_service_that_others_know():
    service = Service()
    KEPT.append(service)
    await asyncio.create_task(service.run())


async def a_connection_to_be_accepted():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        await asyncio.get_running_loop().sock_accept(server)


async def bytes_of_a_socket():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        await asyncio.get_running_loop().sock_recv(ours, 10)


async def a_server_that_serves():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        await server.serve_forever()


async def a_server_beside_a_future_for_ever():
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0):
        await asyncio.get_running_loop().create_future()


async def a_server_beside_an_event_for_ever():
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0):
        await asyncio.Event().wait()


async def a_server_beside_a_task_for_ever():
    async def for_ever():
        await asyncio.Event().wait()

    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0):
        await asyncio.create_task(for_ever())


async def a_protocol_that_completes_a_future():
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    class Reads(asyncio.Protocol):
        def data_received(self, data):
            future.set_result(data)

    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await loop.create_connection(Reads, sock=ours)
        try:
            await future
        finally:
            transport.close()


async def a_datagram():
    event = asyncio.Event()

    class Reads(asyncio.DatagramProtocol):
        def datagram_received(self, data, address):
            event.set()

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Reads, local_addr=("127.0.0.1", 0))
    try:
        await event.wait()
    finally:
        transport.close()


async def a_stream_that_says_nothing():
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        try:
            await reader.readline()
        finally:
            writer.close()


async def wait_with_a_time_limit():
    tasks = [asyncio.ensure_future(asyncio.Event().wait())]
    try:
        await asyncio.wait(tasks, timeout=LONG)
    finally:
        tasks[0].cancel()


async def wait_for_with_a_time_limit():
    await asyncio.wait_for(asyncio.Event().wait(), LONG)


async def an_event_in_a_timeout():
    async with asyncio.timeout(LONG):
        await asyncio.Event().wait()


async def a_lock_in_a_timeout_of_its_holder():
    lock = asyncio.Lock()

    async def holds():
        async with asyncio.timeout(LONG), lock:
            await asyncio.Event().wait()

    async def waits():
        async with lock:
            pass

    async with asyncio.TaskGroup() as group:
        group.create_task(holds())
        await asyncio.sleep(0)
        group.create_task(waits())


async def a_sleeping_producer():
    queue = asyncio.Queue()

    async def produce():
        await asyncio.sleep(LONG)
        queue.put_nowait(1)

    producer = asyncio.create_task(produce())
    try:
        await queue.get()
    finally:
        producer.cancel()


async def a_full_queue_with_a_slow_consumer():
    queue = asyncio.Queue(1)

    async def consume():
        while True:
            await asyncio.sleep(LONG)
            await queue.get()

    async with asyncio.TaskGroup() as group:
        group.create_task(consume())
        for number in range(4):
            await queue.put(number)


async def queue_join_with_a_slow_worker():
    queue = asyncio.Queue()
    queue.put_nowait(1)

    async def work():
        await queue.get()
        await asyncio.sleep(LONG)
        queue.task_done()

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        await queue.join()


async def a_condition_with_a_sleeping_notifier():
    condition = asyncio.Condition()

    async def notify():
        await asyncio.sleep(LONG)
        async with condition:
            condition.notify()

    async with asyncio.TaskGroup() as group:
        group.create_task(notify())
        async with condition:
            await condition.wait()


async def a_semaphore_with_busy_holders():
    places = asyncio.Semaphore(2)

    async def use():
        async with places:
            await asyncio.sleep(LONG)

    await asyncio.gather(*(use() for _ in range(6)))


async def a_lock_with_a_busy_holder():
    lock = asyncio.Lock()

    async def use():
        async with lock:
            await asyncio.sleep(LONG)

    await asyncio.gather(*(use() for _ in range(4)))


async def a_barrier_with_one_to_come():
    barrier = asyncio.Barrier(3)

    async def comes(after):
        await asyncio.sleep(after)
        await barrier.wait()

    await asyncio.gather(comes(0), comes(0), comes(LONG))


async def a_shielded_sleep():
    task = asyncio.create_task(asyncio.sleep(LONG))
    try:
        await asyncio.shield(task)
    finally:
        task.cancel()


async def as_completed_of_sleeps():
    for next_one in asyncio.as_completed([asyncio.sleep(LONG), asyncio.sleep(LONG + 1)]):
        await next_one


async def a_gather_of_a_sleep_and_a_failure():
    async def fails():
        raise ValueError("early")

    await asyncio.gather(asyncio.sleep(LONG), fails(), return_exceptions=True)


async def a_task_that_cleans_up_after_its_cancellation():
    async def cleans_up():
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(LONG)

    task = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    finally:
        task.cancel()


async def an_asynchronous_generator():
    async def rows():
        yield 1
        await asyncio.sleep(LONG)
        yield 2

    async with contextlib.aclosing(rows()) as all_rows:
        async for _ in all_rows:
            pass


async def a_context_manager_of_the_program():
    @contextlib.asynccontextmanager
    async def locked(lock):
        async with lock:
            yield

    lock = asyncio.Lock()

    async def use():
        async with locked(lock):
            await asyncio.sleep(LONG)

    await asyncio.gather(use(), use())


async def a_weak_reference_to_an_event():
    class Signal(asyncio.Event):
        pass

    event = Signal()
    weak = weakref.ref(event)
    asyncio.get_running_loop().call_later(LONG, lambda: weak().set())
    await event.wait()


async def two_tasks_that_talk():
    there, back = asyncio.Queue(), asyncio.Queue()

    async def answers():
        while True:
            await asyncio.sleep(LONG)
            back.put_nowait(await there.get())

    async with asyncio.TaskGroup() as group:
        group.create_task(answers())
        there.put_nowait(1)
        await back.get()


async def a_task_that_waits_to_be_cancelled():
    async def background():
        await asyncio.Event().wait()

    task = asyncio.create_task(background())
    try:
        await asyncio.sleep(LONG)
    finally:
        task.cancel()


async def a_future_that_a_thread_completes():
    loop = asyncio.get_running_loop()
    future, over = loop.create_future(), threading.Event()

    def later():
        over.wait(LONG)
        loop.call_soon_threadsafe(lambda: future.done() or future.set_result(None))

    thread = threading.Thread(target=later, daemon=True)
    thread.start()
    try:
        await future
    finally:
        over.set()
        thread.join()


async def a_coroutine_of_another_loop():
    over = threading.Event()

    def other_loop(started):
        async def main():
            started.set_result(asyncio.get_running_loop())
            await asyncio.to_thread(over.wait, LONG)

        asyncio.run(main())

    import concurrent.futures

    started = concurrent.futures.Future()
    thread = threading.Thread(target=other_loop, args=(started,), daemon=True)
    thread.start()
    loop = await asyncio.wrap_future(started)
    try:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(LONG), loop))
    finally:
        over.set()
        await asyncio.to_thread(thread.join)


async def a_timer_that_cancels():
    async def waits():
        await asyncio.Queue().get()

    task = asyncio.create_task(waits())
    asyncio.get_running_loop().call_later(LONG, task.cancel)
    await asyncio.wait([task])


async def a_signal_that_cancels():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR2, asyncio.current_task().cancel)
    try:
        await asyncio.Queue().get()
    finally:
        loop.remove_signal_handler(signal.SIGUSR2)


async def a_thread_that_cancels():
    async def waits():
        await asyncio.Queue().get()

    task = asyncio.create_task(waits())
    timer = threading.Timer(LONG, asyncio.get_running_loop().call_soon_threadsafe, [task.cancel])
    timer.daemon = True
    timer.start()
    try:
        await asyncio.wait([task])
    finally:
        timer.cancel()


async def a_task_that_stops_in_its_own_time():
    async def stops():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)
        await asyncio.sleep(LONG)

    task = asyncio.create_task(stops())
    await asyncio.sleep(0)
    task.cancel()
    try:
        await asyncio.sleep(LONG)
    finally:
        task.cancel()


async def a_subscriber_that_is_known_weakly():
    subscribers = weakref.WeakSet()
    KEPT.append(subscribers)

    class Subscriber:
        def __init__(self):
            self.queue = asyncio.Queue()

    async def listens():
        subscriber = Subscriber()
        subscribers.add(subscriber)
        await subscriber.queue.get()

    await asyncio.gather(listens(), listens())


async def threads_of_anyio():
    import anyio.to_thread

    over = threading.Event()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(anyio.to_thread.run_sync(over.wait, LONG))
    finally:
        over.set()


async def a_queue_of_unisono():
    import unisono

    queue = unisono.Queue()
    over = threading.Event()

    def fill(queue):
        over.wait(LONG)
        queue.put(1)

    thread = threading.Thread(target=fill, args=(queue,), daemon=True)
    thread.start()
    try:
        await queue.aget()
    finally:
        over.set()
        thread.join()


PROGRAMS = [
    value
    for value in list(vars(sys.modules[__name__]).values())
    if asyncio.iscoroutinefunction(value) and value.__module__ == __name__
]
