package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// recordSize and cpuEvery are those of benchmarks/ledger.py, which reads what is written here.
const (
	recordSize = 24
	cpuEvery   = 64
)

// A ledger is a file mapped into memory that notes each call of a task: number, monotonic ns, CPU ns of every 64th.
type ledger struct {
	open    sync.Once
	records []byte
	next    atomic.Int64
}

func (l *ledger) note(number int64) {
	l.open.Do(l.create)
	if number < 0 { // warming up
		return
	}
	index := l.next.Add(1) - 1
	record := l.records[index*recordSize : (index+1)*recordSize]
	var cpu int64
	if index%cpuEvery == 0 {
		cpu = cpuTime()
	}
	binary.NativeEndian.PutUint64(record, uint64(number))
	binary.NativeEndian.PutUint64(record[16:], uint64(cpu))
	binary.NativeEndian.PutUint64(record[8:], uint64(monotonic()))
}

func (l *ledger) create() {
	capacity, err := strconv.Atoi(os.Getenv("BENCH_CAPACITY"))
	check(err)
	file, err := os.Create(filepath.Join(os.Getenv("BENCH_LEDGER"), strconv.Itoa(os.Getpid())))
	check(err)
	defer file.Close()
	size := capacity * recordSize
	check(file.Truncate(int64(size)))
	l.records, err = syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	check(err)
}

// cpuTime is what this process has used so far, in nanoseconds.
func cpuTime() int64 {
	var used syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return used.Utime.Nano() + used.Stime.Nano()
}

// monotonic is the clock that all processes share; Go's own monotonic clock begins with the process.
func monotonic() int64 {
	const clockMonotonic = 1
	var now syscall.Timespec
	_, _, failure := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0)
	if failure != 0 {
		panic(failure)
	}
	return now.Nano()
}
