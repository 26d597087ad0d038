return NOW
