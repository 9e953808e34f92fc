"""A tagger of sequences of unequal length: embedding, packed bidirectional LSTM, masked loss, clipped gradients."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, IGNORE = 0, -100
rng = np.random.default_rng(1)


class Brackets(Dataset):
    """Strings of opening and closing brackets; each is tagged with whether the depth after it is odd."""

    def __init__(self, count):
        self.sentences = [rng.integers(1, 3, rng.integers(3, 13)) for _ in range(count)]

    def __len__(self):
        return len(self.sentences)

    def __getitem__(self, index):
        words = self.sentences[index]
        depth = np.cumsum(np.where(words == 1, 1, -1))
        return torch.tensor(words, dtype=torch.long), torch.tensor(depth % 2, dtype=torch.long)


def collate(batch):
    words, tags = zip(*batch)
    lengths = torch.tensor([len(sentence) for sentence in words])
    words = pad_sequence(words, batch_first=True, padding_value=PAD)
    tags = pad_sequence(tags, batch_first=True, padding_value=IGNORE)
    return words, lengths, tags


class Tagger(nn.Module):
    def __init__(self, vocabulary=3, embedding_dim=8, hidden_dim=12, tags=2):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding_dim, padding_idx=PAD)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, num_layers=2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden_dim, tags)

    def forward(self, words, lengths):
        embedded = self.embedding(words)
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        self.lstm.flatten_parameters()
        output, (hidden, cell) = self.lstm(packed)
        output, _ = pad_packed_sequence(output, batch_first=True, total_length=words.size(1))
        return self.out(output), hidden


device = torch.device("cpu")
loader = DataLoader(Brackets(96), batch_size=16, shuffle=False, collate_fn=collate)
model = seeded(Tagger()).to(device)
print(model)
print(sum(p.numel() for p in model.parameters() if p.requires_grad))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)

history = []
for epoch in range(3):
    model.train()
    for words, lengths, tags in loader:
        words, tags = words.to(device), tags.to(device)
        optimizer.zero_grad()
        scores, hidden = model(words, lengths)
        loss = F.cross_entropy(scores.view(-1, scores.size(-1)), tags.view(-1), ignore_index=IGNORE)
        loss.backward()
        norm = clip_grad_norm_(model.parameters(), max_norm=0.25)
        optimizer.step()
        history.append(loss.item())
    history.append(float(norm))
    scheduler.step()

    model.eval()
    correct = total = 0
    with torch.no_grad():
        for words, lengths, tags in loader:
            scores, hidden = model(words, lengths)
            kept = tags != IGNORE
            correct += (scores.argmax(dim=-1)[kept] == tags[kept]).sum().item()
            total += kept.sum().item()
    print(f"epoch {epoch}: {correct / total:.3f} of {total} tags", tuple(hidden.shape))

torch.save(model.state_dict(), folder + "/tagger.pt")
again = Tagger()
again.load_state_dict(torch.load(folder + "/tagger.pt"))
again.eval()
with torch.no_grad():
    first, _ = model(words, lengths)
    second, _ = again(words, lengths)
print(torch.equal(first, second))
