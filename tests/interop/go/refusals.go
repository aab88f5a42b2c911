package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	ws "weightstream/v1"
)

// provokeRefusals tells what a server with tokens answers to who has none, a wrong one, or one that may only read.
func provokeRefusals(connection *grpc.ClientConn, token string) (map[string]seen, error) {
	p := &provoker{connection, ws.NewWeightStreamClient(connection), map[string]seen{}}
	for name, held := range map[string]string{
		"no token": "", "unknown token": token + "0", "role that does not suffice": token,
	} {
		ctx, cancel := within(callLimit)
		p.note(name, p.beginWith(ctx, held))
		cancel()
	}
	return p.found, nil
}

func (p *provoker) beginWith(ctx context.Context, token string) error {
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	_, err := p.begin(ctx, "refused", 1, "", f32("weight", 4))
	return err
}
