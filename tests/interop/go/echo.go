package main

// echoTasks are one task per type of the wire format: "echo_int64" for int64, "echo_int64s" for []int64.
// Each answers its argument, so that a value travels in as an argument and out as a result.
func echoTasks() map[string]interface{} {
	return map[string]interface{}{
		"echo_bool":     echo[bool],
		"echo_string":   echo[string],
		"echo_int":      echo[int],
		"echo_int8":     echo[int8],
		"echo_int16":    echo[int16],
		"echo_int32":    echo[int32],
		"echo_int64":    echo[int64],
		"echo_uint":     echo[uint],
		"echo_uint8":    echo[uint8],
		"echo_uint16":   echo[uint16],
		"echo_uint32":   echo[uint32],
		"echo_uint64":   echo[uint64],
		"echo_float32":  echo[float32],
		"echo_float64":  echo[float64],
		"echo_bools":    echo[[]bool],
		"echo_strings":  echo[[]string],
		"echo_ints":     echo[[]int],
		"echo_int8s":    echo[[]int8],
		"echo_int16s":   echo[[]int16],
		"echo_int32s":   echo[[]int32],
		"echo_int64s":   echo[[]int64],
		"echo_uints":    echo[[]uint],
		"echo_uint8s":   echo[[]uint8],
		"echo_uint16s":  echo[[]uint16],
		"echo_uint32s":  echo[[]uint32],
		"echo_uint64s":  echo[[]uint64],
		"echo_float32s": echo[[]float32],
		"echo_float64s": echo[[]float64],
	}
}

func echo[T any](value T) (T, error) { return value, nil }
