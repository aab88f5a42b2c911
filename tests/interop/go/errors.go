package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	ws "weightstream/v1"
)

// seen is an error as Go shows it.
type seen struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// provoker makes mistakes, each of which its server must answer with a code of its own.
type provoker struct {
	connection *grpc.ClientConn
	server     ws.WeightStreamClient
	found      map[string]seen
}

func provokeErrors(connection *grpc.ClientConn) (map[string]seen, error) {
	p := &provoker{connection, ws.NewWeightStreamClient(connection), map[string]seen{}}
	for _, provoke := range []func(context.Context) error{
		p.badManifest, p.unknownModel, p.updateMistakes, p.versionTaken, p.endedWatches, p.unknownMethod, p.nobodyThere,
	} {
		ctx, cancel := within(callLimit)
		err := provoke(ctx)
		cancel()
		if err != nil {
			return nil, err
		}
	}
	return p.found, nil
}

func (p *provoker) note(name string, err error) {
	answer := status.Convert(err)
	p.found[name] = seen{answer.Code().String(), answer.Message()}
}

func f32(name string, elements uint64) tensor {
	spec := &ws.TensorSpec{Name: name, Dtype: "F32", Shape: []uint64{elements}}
	return tensor{spec, make([]byte, 4*elements)}
}

func (p *provoker) begin(ctx context.Context, model string, version uint64, source string, of tensor) (
	*ws.BeginUpdateResponse, error) {
	return p.server.BeginUpdate(ctx, &ws.BeginUpdateRequest{
		Model: model, Version: version, SourceId: source, Tensors: []*ws.TensorSpec{of.spec},
	})
}

func (p *provoker) send(ctx context.Context, chunk *ws.WeightChunk) error {
	stream, err := p.server.Push(ctx)
	if err != nil {
		return err
	}
	// An error of Send is told by CloseAndRecv, with its reason.
	_ = stream.Send(chunk)
	_, err = stream.CloseAndRecv()
	return err
}

func (p *provoker) badManifest(ctx context.Context) error {
	of := f32("weight", 4)
	of.spec.Dtype = "F31"
	_, err := p.begin(ctx, "bad", 1, "", of)
	p.note("unknown dtype", err)
	return nil
}

func (p *provoker) unknownModel(ctx context.Context) error {
	_, err := p.server.GetModel(ctx, &ws.GetModelRequest{Model: "nobody-knows"})
	p.note("unknown model", err)
	return nil
}

// updateMistakes makes every mistake that an update in flight can be told: it ends superseded.
func (p *provoker) updateMistakes(ctx context.Context) error {
	of := f32("weight", 1<<19)
	update, err := p.begin(ctx, "errors", 1, "one", of)
	if err != nil {
		return err
	}
	over := update.BucketLimitBytes + 1
	p.note("over the bucket limit", p.send(ctx, chunkOf(update.UpdateId, of, 0, over)))

	damaged := chunkOf(update.UpdateId, of, 0, 1024)
	*damaged.Crc32C ^= 1
	p.note("wrong checksum", p.send(ctx, damaged))

	_, err = p.server.CommitUpdate(ctx, &ws.CommitUpdateRequest{Model: "errors", UpdateId: update.UpdateId})
	p.note("commit before complete", err)

	newer, err := p.begin(ctx, "errors", 2, "two", of)
	if err != nil {
		return err
	}
	p.note("superseded", p.send(ctx, chunkOf(update.UpdateId, of, 0, 1024)))
	// A server that is told to end waits for updates in flight.
	_, err = p.server.AbortUpdate(ctx, &ws.AbortUpdateRequest{Model: "errors", UpdateId: newer.UpdateId})
	return err
}

func (p *provoker) versionTaken(ctx context.Context) error {
	of := f32("weight", 4)
	update, err := p.begin(ctx, "taken", 1, "", of)
	if err != nil {
		return err
	}
	if err := p.send(ctx, chunkOf(update.UpdateId, of, 0, 16)); err != nil {
		return err
	}
	if _, err := p.server.CommitUpdate(ctx, &ws.CommitUpdateRequest{Model: "taken", UpdateId: update.UpdateId}); err != nil {
		return err
	}
	_, err = p.begin(ctx, "taken", 1, "", of)
	p.note("version taken", err)
	return nil
}

func (p *provoker) endedWatches(ctx context.Context) error {
	request := &ws.WatchModelRequest{Model: "errors"}
	soon, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	p.note("deadline", drain(p.server.WatchModel(soon, request)))

	cancelled, cancel := context.WithCancel(ctx)
	watch, err := p.server.WatchModel(cancelled, request)
	if err != nil {
		cancel()
		return err
	}
	if _, err := watch.Recv(); err != nil {
		cancel()
		return err
	}
	cancel()
	p.note("cancelled", drain(watch, nil))
	return nil
}

// drain reads a watch until it ends, and returns why.
func drain(watch ws.WeightStream_WatchModelClient, err error) error {
	for err == nil {
		_, err = watch.Recv()
	}
	return err
}

func (p *provoker) unknownMethod(ctx context.Context) error {
	err := p.connection.Invoke(ctx, "/weightstream.v1.WeightStream/NoSuchCall", &ws.GetModelRequest{}, &ws.Model{})
	p.note("unknown method", err)
	return nil
}

func (p *provoker) nobodyThere(ctx context.Context) error {
	// A port that only root could serve at, and nobody does.
	connection, err := dial("127.0.0.1:1")
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = ws.NewWeightStreamClient(connection).ListModels(ctx, &ws.ListModelsRequest{})
	p.note("nobody there", err)
	return nil
}
