// A client of Weightstream in Go, from nothing but generated stubs. ../README.md says what it is asked to do; it prints
// one JSON object.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	ws "weightstream/v1"
)

const (
	callLimit     = 30 * time.Second
	transferLimit = 120 * time.Second
)

func dial(address string) (*grpc.ClientConn, error) {
	return grpc.Dial(address, grpc.WithInsecure())
}

func run(arguments []string) (interface{}, error) {
	usage := fmt.Errorf("usage: push ADDRESS MODEL VERSION FOLDER | pull ADDRESS MODEL VERSION FILE | errors ADDRESS | " +
		"refusals ADDRESS TOKEN")
	if len(arguments) < 2 {
		return nil, usage
	}
	connection, err := dial(arguments[1])
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if arguments[0] == "errors" && len(arguments) == 2 {
		return provokeErrors(connection)
	}
	if arguments[0] == "refusals" && len(arguments) == 3 {
		return provokeRefusals(connection, arguments[2])
	}
	if len(arguments) != 5 {
		return nil, usage
	}
	server := ws.NewWeightStreamClient(connection)
	model, path := arguments[2], arguments[4]
	version, err := strconv.ParseUint(arguments[3], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("version: %w", err)
	}
	switch arguments[0] {
	case "push":
		return push(server, model, version, path)
	case "pull":
		return pull(server, model, version, path)
	}
	return nil, usage
}

func within(limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), limit)
}

func main() {
	result, err := run(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
