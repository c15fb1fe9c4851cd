#include "os/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "os/file.h"

namespace tandem::os {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct Pipe {
  FileDescriptor read;
  FileDescriptor write;
};

Result<Pipe> MakePipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "a pipe to a child process");
  return Pipe{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

// In the child, between fork and exec: async-signal-safe calls only, since other threads' locks are
// frozen here. Never returns; what went wrong goes into `failed`.
[[noreturn]] void Become(char* const* argv, const ChildOptions& options, pid_t parent, int out,
                         int err, int failed) {
  const auto fail = [failed] {
    const int error = errno;
    static_cast<void>(!write(failed, &error, sizeof(error)));
    _exit(127);
  };
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // it died before it could be a reason to die
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  if (options.data_limit_bytes > 0) {
    const rlimit limit{options.data_limit_bytes, options.data_limit_bytes};
    if (setrlimit(RLIMIT_DATA, &limit) != 0) fail();
  }
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  const int nothing = open("/dev/null", O_RDONLY);
  if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
      dup2(err, STDERR_FILENO) < 0) {
    fail();
  }
  // Files that were opened without O_CLOEXEC by a library stay here.
  if ((failed > 3 && close_range(3, static_cast<unsigned>(failed) - 1, 0) != 0) ||
      close_range(static_cast<unsigned>(failed) + 1, ~0U, 0) != 0) {
    fail();
  }
  execv(argv[0], argv);
  fail();
  _exit(127);
}

// Reads what there is. False at the end.
bool ReadSome(int fd, size_t max_bytes, bool keep_end, std::string* text) {
  std::array<char, 4096> buffer;
  const ssize_t n = read(fd, buffer.data(), buffer.size());
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  if (n == 0) return false;
  const std::string_view bytes(buffer.data(), static_cast<size_t>(n));
  if (keep_end) {
    text->append(bytes);
    if (text->size() > max_bytes) text->erase(0, text->size() - max_bytes);
  } else {
    text->append(bytes.substr(0, max_bytes - std::min(max_bytes, text->size())));
  }
  return true;
}

}  // namespace

Result<ChildOutcome> RunChild(const ChildOptions& options) {
  if (options.argv.empty()) return Err(ErrorCode::kInvalidArgument, "no program to run was named");
  TANDEM_ASSIGN_OR_RETURN(Pipe out, MakePipe());
  TANDEM_ASSIGN_OR_RETURN(Pipe err, MakePipe());
  TANDEM_ASSIGN_OR_RETURN(Pipe failed, MakePipe());
  std::vector<char*> argv;
  for (const std::string& word : options.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoError(errno, "a child process");
  if (pid == 0) {
    Become(argv.data(), options, parent, out.write.get(), err.write.get(), failed.write.get());
  }
  setpgid(pid, pid);  // as the child does: whoever comes first
  out.write.Reset();
  err.write.Reset();
  failed.write.Reset();
  const auto reap = [pid](rusage* used) {
    int status = 0;
    while (wait4(pid, &status, 0, used) < 0 && errno == EINTR) {
    }
    return status;
  };
  int error = 0;
  ssize_t n = 0;
  while ((n = read(failed.read.get(), &error, sizeof(error))) < 0 && errno == EINTR) {
  }
  if (n == sizeof(error)) {
    reap(nullptr);
    return ErrnoError(error, options.argv[0]);
  }

  // glibc 2.36 declares pidfd_open() without C linkage.
  const FileDescriptor ended(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!ended.valid()) {
    const int reason = errno;
    kill(-pid, SIGKILL);
    reap(nullptr);
    return ErrnoError(reason, "watching a child process");
  }
  ChildOutcome outcome;
  const SteadyClock::time_point deadline = SteadyClock::now() + options.timeout;
  std::array<pollfd, 3> watched{
      pollfd{ended.get(), POLLIN, 0},
      pollfd{out.read.get(), POLLIN, 0},
      pollfd{err.read.get(), POLLIN, 0},
  };
  const auto drain = [&](int wait_ms) {
    if (poll(watched.data(), watched.size(), wait_ms) <= 0) return false;
    if (watched[1].revents != 0 &&
        !ReadSome(watched[1].fd, options.max_output_bytes, false, &outcome.out)) {
      watched[1].fd = -1;  // poll skips it
    }
    if (watched[2].revents != 0 &&
        !ReadSome(watched[2].fd, options.max_output_bytes, true, &outcome.err)) {
      watched[2].fd = -1;
    }
    return true;
  };
  bool timed_out = false;
  while ((watched[0].revents & POLLIN) == 0) {
    int wait_ms = -1;
    if (options.timeout.count() > 0) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyClock::now()).count();
      if (left <= 0) {
        timed_out = true;
        break;
      }
      wait_ms = static_cast<int>(std::min<int64_t>(left, 1 << 30));
    }
    drain(wait_ms);
  }
  // The group too: what it started may hold the pipes open.
  kill(-pid, SIGKILL);
  watched[0].fd = -1;
  while ((watched[1].fd >= 0 || watched[2].fd >= 0) && drain(0)) {
  }
  rusage used{};
  const int status = reap(&used);
  outcome.peak_resident_bytes = static_cast<uint64_t>(used.ru_maxrss) * 1024;
  if (timed_out) {
    outcome.end = ChildOutcome::End::kTimedOut;
    outcome.code = SIGKILL;
  } else if (WIFSIGNALED(status)) {
    outcome.end = ChildOutcome::End::kSignalled;
    outcome.code = WTERMSIG(status);
  } else {
    outcome.code = WEXITSTATUS(status);
  }
  return outcome;
}

Result<std::filesystem::path> OwnProgram() {
  std::error_code error;
  std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return ErrnoError(error.value(), "/proc/self/exe");
  return path;
}

}  // namespace tandem::os
