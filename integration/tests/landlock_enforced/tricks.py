# Tries to run or read a program of the image that the command does not need, each in another way. Prints a row each:
# "ok" where it got there, else why not. Its name is put together here, so that no text names it. Debian's python3-minimal
# is enough.
import errno, os, subprocess, sys

OUT = os.path.join("/usr/bin", "rotcaf"[::-1])
RESULT = "6: 2 3"
LOADER = "/lib64/ld-linux-x86-64.so.2"
TMP = "/tmp/tricks-%d" % os.getpid()
os.mkdir(TMP)


def runs(path, *words, **more):
    done = subprocess.run([path, *words], capture_output=True, text=True, **more)
    return RESULT in done.stdout


def made(name, content):
    path = os.path.join(TMP, name)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o755)
    return path


def contents(path=OUT):
    with open(path, "rb") as file:
        return file.read()


def opened(path, flags=os.O_PATH):
    fd = os.open(path, flags)
    os.set_inheritable(fd, True)
    return fd


def execute():
    return runs(OUT, "6")


def execute_from_its_directory():
    return runs("./factor", "6", cwd="/usr/bin")


def read():
    return contents().startswith(b"\x7fELF")


def through_the_loader():
    return runs(LOADER, OUT, "6")


def through_its_own_root():
    return runs("/proc/self/root" + OUT, "6")


def through_the_root_of_init():
    return runs("/proc/1/root" + OUT, "6")


def through_a_descriptor():
    fd = opened(OUT)
    return runs("/proc/self/fd/%d" % fd, "6", close_fds=False)


def through_the_descriptor_of_its_directory():
    fd = opened("/usr/bin", os.O_PATH | os.O_DIRECTORY)
    return runs("/proc/self/fd/%d/factor" % fd, "6", close_fds=False)


def read_through_a_descriptor():
    return contents("/proc/self/fd/%d" % opened(OUT)).startswith(b"\x7fELF")


def execveat_of_a_descriptor():
    fd = opened(OUT)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        try:
            os.execve(fd, ["factor", "6"], {})
        except OSError as error:
            os._exit(error.errno)
    os.close(writer)
    text = os.read(reader, 100).decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, "execveat")
    return RESULT in text


def through_a_symbolic_link():
    path = os.path.join(TMP, "symbolic")
    os.symlink(OUT, path)
    return runs(path, "6")


def through_a_hard_link():
    path = os.path.join(TMP, "hard")
    os.link(OUT, path)
    return runs(path, "6")


def copied():
    return runs(made("copied", contents()), "6")


def copied_to_memory():
    fd = os.memfd_create("x")
    os.write(fd, contents())
    return runs("/proc/self/fd/%d" % fd, "6", pass_fds=[fd])


def own_program_in_memory():
    fd = os.memfd_create("x")
    os.write(fd, contents(sys.executable))
    return runs("/proc/self/fd/%d" % fd, "-c", "print('6: 2 3')", pass_fds=[fd])


def as_interpreter_of_a_script():
    return runs(made("script", b"#!" + OUT.encode() + b" 6\n"))


TRICKS = [
    execute, execute_from_its_directory, read, through_the_loader, through_its_own_root, through_a_descriptor,
    through_the_descriptor_of_its_directory, read_through_a_descriptor, execveat_of_a_descriptor,
    through_a_symbolic_link, through_a_hard_link, copied, copied_to_memory, own_program_in_memory,
    as_interpreter_of_a_script,
] + ([through_the_root_of_init] if "exec" in sys.argv else [])



def said(kind, name, what):
    try:
        answer = "ok" if what() else "no"
    except OSError as error:
        answer = errno.errorcode.get(error.errno, str(error.errno))
    print(kind, name, answer)


def library():
    import _hashlib

    return len(_hashlib.openssl_sha256(b"x").digest()) == 32


for trick in TRICKS:
    said("trick", trick.__name__, trick)

# What the command is there for.
said("needed", "itself_again", lambda: runs(sys.executable, "-c", "print('6: 2 3')"))
said("needed", "itself_through_proc", lambda: runs("/proc/self/exe", "-c", "print('6: 2 3')"))
said("needed", "own_script_in_tmp", lambda: runs(made("own", b"#!/usr/bin/python3\nprint('6: 2 3')\n")))
said("needed", "library", library)
said("needed", "data", lambda: b"Tries to run" in contents("/opt/tricks.py"))
said("needed", "directories", lambda: "factor" in os.listdir("/usr/bin") and "etc" in os.listdir("/"))
said("needed", "status", lambda: b"Seccomp" in contents("/proc/self/status"))
said("needed", "null", lambda: os.write(os.open("/dev/null", os.O_RDWR), b"x") == 1)
said("needed", "random", lambda: len(open("/dev/urandom", "rb").read(4)) == 4)
said("needed", "tmp", lambda: open(TMP + "/file", "w").write("x") == 1)
said("needed", "stdout_again", lambda: open("/dev/stdout", "w").write("") == 0)
