"""Nothing reaches for the network while experiments run, and what serves pages does so on this machine alone, to who has the token."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from nl_irl.worlds.cache import cache_folder

BIN, ROOT = Path(sys.executable).parent, Path(__file__).parents[1]

# Python tells an audit hook of each connection before it is made, whoever makes it. This one lies in the way of every process that is started below.
HOOK = '''
import ipaddress, os, sys
def near(host):
    if host in ("", "localhost", None): return True
    try: return ipaddress.ip_address(host).is_loopback
    except ValueError: return False
def hear(event, args):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        away = isinstance(args[1], tuple) and not near(args[1][0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        away = not near(args[0].decode() if isinstance(args[0], bytes) else args[0])
    else: return
    if not away: return
    with open(os.environ["NL_IRL_HEARD"], "a") as file: file.write(f"{event} {args[1:] if len(args) > 1 else args}\\n")
    raise OSError(f"the network was asked for: {event} {args}")
sys.addaudithook(hear)
'''


@pytest.fixture
def alone(tmp_path):
    "Run a command in an empty folder, without a network as far as Python goes: its output; what it asked of the network is in the file `heard`."
    (tmp_path/'hook').mkdir()
    (tmp_path/'hook'/'sitecustomize.py').write_text(HOOK)
    (tmp_path/'work').mkdir()
    path = os.pathsep.join([str(tmp_path/'hook'), str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    environment = os.environ | {'PYTHONPATH': path, 'NL_IRL_HEARD': str(tmp_path/'heard'), 'HOME': str(tmp_path), 'NL_IRL_CACHE': str(cache_folder())}
    def call(*command):
        done = subprocess.run([str(c) for c in command], cwd=tmp_path/'work', env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr
    call.heard = lambda: (tmp_path/'heard').read_text() if (tmp_path/'heard').exists() else ''
    call.environment = environment
    return call


@pytest.mark.parametrize('code', [
    'import socket; socket.create_connection(("192.0.2.1", 80), .1)', 'import urllib.request; urllib.request.urlopen("http://example.invalid")',
    'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 9))', 'import socket; socket.socket().bind(("0.0.0.0", 0))',
    'import asyncio; asyncio.run(asyncio.open_connection("192.0.2.1", 80))'])
def test_who_asks_is_heard(alone, code):
    status, said = alone(sys.executable, '-c', code)
    assert status == 1 and 'the network was asked for' in said and alone.heard().startswith('socket.')


def test_loopback_is_no_network(alone):
    code = ('import socket; s = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(s.getsockname()); a, b = socket.socketpair(); '
            'socket.getaddrinfo("localhost", 80)')
    assert alone(sys.executable, '-c', code) == (0, '') and not alone.heard()


def test_an_experiment_asks_nothing_of_the_network(alone):
    "With a kernel, TensorBoard's log, a report, and an appraisal of what was learned."
    status, said = alone(BIN/'nl-irl', 'run', 'method', *'-p preset tiny -p brief true -p effort 0.1 --out run'.split())
    assert status == 0, said
    for command in (['report', 'run', '-o', 'x.html'], ['reward', 'run', '--split', 'dev_seen'], ['data'], ['doctor'], ['data', 'clean', 'none']):
        status, said = alone(BIN/'nl-irl', *command)
        assert status == 0 or command[0] == 'data' and 'Traceback' not in said, (command, said)
    assert not alone.heard()


# What serves pages

def listening(pid):
    "The addresses on which a process listens, as `ss` has them in /proc: (hexadecimal address, port)."
    inodes = set()
    for link in Path(f'/proc/{pid}/fd').iterdir():
        try: inodes |= set(re.findall(r'socket:\[(\d+)\]', os.readlink(link)))
        except OSError: pass
    lines = [line.split() for name in ('tcp', 'tcp6') for line in Path(f'/proc/net/{name}').read_text().splitlines()[1:]]
    return {tuple(f[1].split(':')) for f in lines if f[3] == '0A' and f[9] in inodes}


def status(url):
    "The HTTP status of a page, redirections not followed."
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_): return None
    try: return urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay).open(url, timeout=30).status
    except urllib.error.HTTPError as error: return error.code


@pytest.mark.skipif(not Path('/proc/net/tcp').exists(), reason='needs /proc, to see where a process listens')
@pytest.mark.parametrize('target', ['app', 'lab'])
def test_pages_are_served_to_this_machine_and_with_a_token(tmp_path, alone, target):
    "The command of `make app` and of `make lab`, without a browser."
    line, = re.findall(rf'^{target}: .*\n\t(.*)$', (ROOT/'Makefile').read_text(), re.M)
    words = re.sub(r'\$\(if .*--allow-root\)', '', line).replace('$(BIN)', str(BIN)).replace('$(TOUR)', '').split()
    (tmp_path/'x.ipynb').write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    with socket.create_server(('127.0.0.1', 0)) as free: port = free.getsockname()[1]
    root = ['--allow-root'] * (target == 'lab' and os.geteuid() == 0)
    with open(tmp_path/'said', 'w') as said:
        server = subprocess.Popen([*words, '--no-browser', f'--port={port}', *root, tmp_path/'x.ipynb'], cwd=tmp_path, env=alone.environment,
                                  stdout=said, stderr=said)
    try:
        end = time.monotonic() + 60
        while not (at := [address for address, number in listening(server.pid) if int(number, 16) == port]) or 'token=' not in (tmp_path/'said').read_text():
            assert server.poll() is None and time.monotonic() < end, (tmp_path/'said').read_text()
            time.sleep(.1)
        url, token = re.findall(r'(http://(?:127\.0\.0\.1|localhost):\d+/\S*?)\?token=(\w+)', (tmp_path/'said').read_text())[-1]
        assert {*at} <= {'0100007F', '00000000000000000000000001000000'}                    # 127.0.0.1 and ::1
        assert {address for address, _ in listening(server.pid)} <= {*at}
        assert status(url) in (302, 403) and status(f'{url}?token={token}') == 200
    finally:
        server.kill()
        server.wait()
    assert not alone.heard()
