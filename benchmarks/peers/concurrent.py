"""concurrent.futures: one executor, which all cases of threads share."""

from concurrent.futures import ThreadPoolExecutor


def executor_map(call, size, n):
    with ThreadPoolExecutor(size) as executor:
        for _ in executor.map(call, range(n)):
            pass


def executor_submit(call, size, n):
    with ThreadPoolExecutor(size) as executor:
        for item in range(n):
            executor.submit(call, item).result()


thread_map = executor_map
thread_apply = executor_submit
