package main

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	ws "weightstream/v1"
)

type pulledTensor struct {
	Name  string   `json:"name"`
	DType string   `json:"dtype"`
	Shape []uint64 `json:"shape"`
	Bytes int      `json:"bytes"`
}

type pulled struct {
	// In the order in which the file has their bytes.
	Tensors []*pulledTensor `json:"tensors"`
}

// pull writes the bytes of a version to a file, one tensor behind the other, as they come.
func pull(server ws.WeightStreamClient, model string, version uint64, path string) (result *pulled, err error) {
	ctx, cancel := within(transferLimit)
	defer cancel()
	stream, err := server.Pull(ctx, &ws.PullRequest{Model: model, Version: version})
	if err != nil {
		return nil, err
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closed := file.Close(); err == nil {
			err = closed
		}
	}()
	out := bufio.NewWriter(file)
	result = &pulled{}
	for {
		chunk, err := stream.Recv()
		if err == io.EOF {
			return result, out.Flush()
		}
		if err != nil {
			return nil, err
		}
		if err := result.add(chunk); err != nil {
			return nil, err
		}
		if _, err := out.Write(chunk.Data); err != nil {
			return nil, err
		}
	}
}

func (p *pulled) add(chunk *ws.WeightChunk) error {
	if chunk.Crc32C == nil || *chunk.Crc32C != crc32.Checksum(chunk.Data, castagnoli) {
		return fmt.Errorf("tensor %q at %d: the data do not match their checksum", chunk.Name, chunk.Offset)
	}
	if last := len(p.Tensors) - 1; last < 0 || p.Tensors[last].Name != chunk.Name {
		shape := append([]uint64{}, chunk.Shape...)
		p.Tensors = append(p.Tensors, &pulledTensor{Name: chunk.Name, DType: chunk.Dtype, Shape: shape})
	}
	last := p.Tensors[len(p.Tensors)-1]
	if chunk.Offset != uint64(last.Bytes) {
		return fmt.Errorf("tensor %q: bytes at %d came after %d", chunk.Name, chunk.Offset, last.Bytes)
	}
	last.Bytes += len(chunk.Data)
	return nil
}
